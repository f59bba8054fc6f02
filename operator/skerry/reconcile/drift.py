"""How an object that was made differs from what it should be."""

from collections.abc import Mapping
from typing import Any, Final

from skerry.api.quantities import CPU, QuantityError, amount
from skerry.kube.gateway import Document

_POD: Final = "spec.template.spec"
_PODS: Final = {
    f"{_POD}.containers": "name",
    f"{_POD}.initContainers": "name",
    f"{_POD}.volumes": "name",
    f"{_POD}.nodeSelector": "",
}
_WHOLE: Final[Mapping[str, Mapping[str, str]]] = {
    "Service": {"spec.ports": "port", "spec.selector": ""},
    "Deployment": {"spec.paused": "", **_PODS},
    "DaemonSet": _PODS,
}
"""Fields to which nobody may add, by kind, with the key of a list's items: what was added would change the work."""
_QUANTITIES: Final = frozenset({"requests", "limits"})


def equal(wanted: object, found: object, *, quantities: bool = False) -> bool:
    """Tell whether an object has all that is wanted; what the API server added or wrote otherwise does not matter.

    Args:
        wanted: What is wanted.
        found: What is there.
        quantities: Whether texts are quantities, of which the API server has one form: 0.5 becomes 500m.
    """
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            equal(value, found.get(key), quantities=key in _QUANTITIES or quantities) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(wanted) == len(found)
            and all(equal(one, other, quantities=quantities) for one, other in zip(wanted, found, strict=True))
        )
    # The API server leaves an empty text out.
    return wanted == found or (wanted == "" and found is None) or (quantities and _same(wanted, found))


def _same(one: object, other: object) -> bool:
    """Tell whether two quantities are equal to a thousandth, of cores or of anything else."""
    try:
        return amount(CPU, str(one)) == amount(CPU, str(other))
    except QuantityError:
        return False


def additions(wanted: Document, found: Document) -> Document:
    """Return a merge patch that takes away what others added to an object; empty where they added nothing.

    Server-side apply leaves that alone: a port, a container or a selector of somebody else's beside ours.
    """
    change: Document = {}
    for path, key in _WHOLE.get(wanted["kind"], {}).items():
        mine, theirs = _at(wanted, path), _at(found, path)
        if isinstance(theirs, list) and key:
            known = {item[key] for item in mine or []}
            if any(item[key] not in known for item in theirs):
                _set(change, path, mine)
        elif isinstance(theirs, dict):
            strange = theirs.keys() - (mine or {}).keys()
            if strange:
                _set(change, path, dict.fromkeys(strange))
        elif theirs and not mine:
            _set(change, path, None)
    return change


def _at(document: Document, path: str) -> Any:
    found: Any = document
    for name in path.split("."):
        found = (found or {}).get(name)
    return found


def _set(change: Document, path: str, value: Any) -> None:
    *folders, last = path.split(".")
    for name in folders:
        change = change.setdefault(name, {})
    change[last] = value
