"""What URIs of models and data look like; the API server checks it, and so that it can the rules are in CEL."""

from typing import Annotated, Final

from pydantic import Field

from skerry.api.meta import Uri, cel

_SCHEME_RULE = (
    "self.startsWith('oci://') || self.startsWith('https://') || self.startsWith('http://') || "
    "self.startsWith('s3://') || self.startsWith('hf://') || self.startsWith('pvc://')"
)
_OCI_RULE = (
    "!self.startsWith('oci://') || self.matches('^oci://[^/@?#]+(/[a-z0-9._-]+)+(:[A-Za-z0-9_][A-Za-z0-9._-]*)?"
    "(@sha256:[0-9a-f]{64})?$') && self.matches('/[^/]*[:@][^/]*$')"
)
_PVC_RULE = (
    "!self.startsWith('pvc://') || self.matches('^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/.+$') && "
    "!self.matches('(^|/)[.][.](/|$)')"
)
_HTTP_RULE = "!self.matches('^https?://') || self.matches('^https?://[^/@]+/.+$')"
_NO_DOTS = "!self.matches('/[.][.]?(/|$)')"
_S3_RULE = f"!self.startsWith('s3://') || self.matches('^s3://[a-z0-9][a-z0-9.-]{{1,61}}[a-z0-9]/.+$') && {_NO_DOTS}"
_HF_RULE = (
    "!self.startsWith('hf://') || self.matches('^hf://(datasets/)?[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*"
    f"@[0-9a-f]{{40}}(/[^/]+)*/?$') && {_NO_DOTS}"
)
_HF_MESSAGE = (
    "an hf:// URI must look like hf://ORGANIZATION/NAME@COMMIT[/PATH], where COMMIT is 40 digits and not a branch: "
    "`git ls-remote https://huggingface.co/ORGANIZATION/NAME HEAD` prints the newest"
)
URI_RULES: Final = cel(
    (_SCHEME_RULE, "the URI scheme must be oci://, https://, http://, s3://, hf:// or pvc://"),
    (_OCI_RULE, "an oci:// URI must look like oci://REGISTRY[:PORT]/REPOSITORY:TAG or …@sha256:DIGEST"),
    (_PVC_RULE, "a pvc:// URI must look like pvc://CLAIM/PATH, with no .. in the path"),
    (_HTTP_RULE, "an https:// URI must look like https://HOST/PATH, without credentials (use credentialsSecretName)"),
    (
        _S3_RULE,
        "an s3:// URI must look like s3://BUCKET/KEY, or s3://BUCKET/FOLDER/ for a folder, with no . or .. in it",
    ),
    (_HF_RULE, _HF_MESSAGE),
)
SHA256_RULE: Final = (
    "!self.uri.matches('^(https?|s3|pvc)://') || has(self.sha256)",
    "sha256 is required for https://, http://, s3:// and pvc:// URIs: only it tells whether the right bytes arrived",
)
"""For objects with `uri` and `sha256`; a commit of the hub names its content itself, and an artifact has a digest."""

SourceUri = Annotated[Uri, Field(json_schema_extra=URI_RULES)]
