"""Names that follow from inputs: the same inputs give the same name, so that nothing is done twice."""

import hashlib
import json
from typing import Any

HASH_DIGITS = 8
NAME_LIMIT = 63


def input_hash(document: Any) -> str:
    """Return a few hexadecimal digits that stand for a JSON document."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]


def job_name(model: str, accelerator: str, inputs: dict[str, Any]) -> str:
    """Return `<model>-<accelerator>-<hash>`, cut to 63 characters before the hash.

    The hash covers the full names too: cutting cannot make two names one.
    """
    suffix = f"-{input_hash([model, accelerator, inputs])}"
    start = f"{model}-{accelerator}"[: NAME_LIMIT - len(suffix)].rstrip("-.")
    return start + suffix
