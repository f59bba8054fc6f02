"""What the installation decides about the objects that the operator makes."""

from typing import Annotated, Literal

from pydantic import Field

from skerry.api.meta import ApiModel
from skerry.api.pods import Resources
from skerry.api.types import Framework

Port = Annotated[int, Field(ge=1, le=65535)]


class RegistrySettings(ApiModel):
    """The registry that variants are published to.

    Attributes:
        push: host[:port] that optimizer Jobs push to.
        pull: host[:port] by which nodes pull; the same registry.
        read: host[:port] by which pods read without credentials; empty: the push name.
        prefix: Path before namespace and model.
        insecure: host[:port] of registries that speak plain HTTP.
        credentials_secret: Secret of type kubernetes.io/dockerconfigjson in the operator's namespace, to push; empty:
            none.
        pull_credentials_secret: The same to pull, for nodes and init containers; empty: none is needed.
    """

    push: str
    pull: str
    read: str = ""
    prefix: str = "models"
    insecure: list[str] = Field(default_factory=list)
    credentials_secret: str = ""
    pull_credentials_secret: str = ""


class InstallationSettings(ApiModel):
    """Everything that the chart's values decide about Jobs and pods.

    Attributes:
        optimizer_image: Image of optimization Jobs.
        tool_images: Images of further tools, by their group; groups that are not there cannot be used.
        server_image: Image of inference pods for models of tensors.
        server_images: Images of inference pods for other frameworks; variants of those that are not there cannot be
            served.
        image_pull_policy: Pull policy of both.
        image_pull_secrets: Names of Secrets to pull them with, looked for in the namespaces of the pods.
        registry: Where variants go.
        allow_http: Whether http:// sources are allowed.
        ca_bundle: Certificate authorities, in PEM, that sources and registries may use beside the public ones.
        hugging_face_endpoint: URL of a mirror that hf:// sources are read from; empty: the hub itself.
        image_volumes: Whether variants are mounted as image volumes; Auto: where the API server
            and all kubelets are of 1.35 or later.
        optimizer_resources: Resources of optimizer containers where the spec says nothing.
        server_resources: Resources of server containers where the spec says nothing.
        work_size: Limit of a Job's working folder.
    """

    optimizer_image: str
    server_image: str
    server_images: dict[Framework, str] = Field(default_factory=dict)
    tool_images: dict[str, str] = Field(default_factory=dict)
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: list[str] = Field(default_factory=list)
    registry: RegistrySettings
    allow_http: bool = False
    ca_bundle: str = ""
    hugging_face_endpoint: str = ""
    image_volumes: Literal["Auto", "Always", "Never"] = "Auto"
    optimizer_resources: Resources = Resources(
        requests={"cpu": "500m", "memory": "1Gi"}, limits={"cpu": "1", "memory": "4Gi"}
    )
    server_resources: Resources = Resources(
        requests={"cpu": "100m", "memory": "128Mi"}, limits={"cpu": "1", "memory": "1Gi"}
    )
    work_size: str = "8Gi"

    def serving_image(self, framework: Framework | None) -> str:
        """Return the image that serves variants of a framework; empty where there is none."""
        if framework in {None, Framework.OPENVINO, Framework.ONNX_RUNTIME}:
            return self.server_image
        return self.server_images.get(framework, "")
