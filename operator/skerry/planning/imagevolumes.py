"""Whether variants can be mounted as image volumes: the API server and every kubelet must be able to.

During an upgrade the API server is ahead of the kubelets, by up to three minor versions.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

SINCE: Final = (1, 35)
"""The first version of Kubernetes in which the API server and the kubelet have them on by default."""


def too_old(node: Mapping[str, Any]) -> bool:
    """Tell whether a Node's kubelet cannot mount images.

    A Node that does not tell its version has no kubelet yet; a version that is none of Kubernetes' may be any.
    """
    told: str = node.get("status", {}).get("nodeInfo", {}).get("kubeletVersion", "")
    numbers = re.match(r"v?(\d+)\.(\d+)", told)
    return bool(told) and (numbers is None or (int(numbers[1]), int(numbers[2])) < SINCE)
