"""Amounts of resources: Kubernetes quantities as exact whole numbers, and in words.

Amounts are what the scheduler counts in: thousandths of a core for `cpu`, else whole bytes or pieces, rounded up.
"""

import re
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from math import ceil
from typing import Final

Amounts = Mapping[str, int]
"""How much of each resource, by its name."""

CPU: Final = "cpu"
MEMORY: Final = "memory"
DISK: Final = "ephemeral-storage"
PODS: Final = "pods"
_QUANTITY: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]([+-]?\d{1,3})|([KMGTPE]i|[numkMGTPE]))?", re.ASCII)
_SUFFIXES: Final = {
    **{
        suffix: Fraction(10) ** power
        for suffix, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)
    },
    **{f"{suffix}i": Fraction(1024) ** (index + 1) for index, suffix in enumerate("KMGTPE")},
}
_BINARY: Final = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_THOUSAND: Final = 1000


class QuantityError(ValueError):
    """Text that is no quantity."""


@lru_cache(maxsize=8192)
def _number(text: str) -> Fraction:
    found = _QUANTITY.fullmatch(text.strip())
    if found is None:
        message = f"{text!r} is no quantity; quantities look like 500m, 2, 1.5Gi or 1e3"
        raise QuantityError(message)
    number, exponent, suffix = found.groups()
    if exponent:
        return Fraction(number) * Fraction(10) ** int(exponent)
    return Fraction(number) * _SUFFIXES.get(suffix, Fraction(1))


def amount(resource: str, quantity: int | str) -> int:
    """Return a quantity as an amount of the resource.

    Raises:
        QuantityError: It is not of the form.
    """
    number = _number(str(quantity))
    return ceil(number * _THOUSAND if resource == CPU else number)


def amounts(quantities: Mapping[str, int | str]) -> dict[str, int]:
    """Return quantities of resources as amounts.

    Raises:
        QuantityError: One is not of the form.
    """
    return {resource: amount(resource, quantity) for resource, quantity in quantities.items()}


def added(one: Amounts, other: Amounts) -> dict[str, int]:
    """Return the sum of both."""
    total = dict(one)
    for resource, more in other.items():
        total[resource] = total.get(resource, 0) + more
    return total


def _in_bytes(resource: str) -> bool:
    return resource in {MEMORY, DISK} or resource.startswith("hugepages-")


def figure(resource: str, many: int, *, exact: bool = False) -> str:
    """Return an amount for people: 500m, 2, 1.5 GiB; cut after three digits behind the point unless exact."""
    if resource == CPU:
        return f"{many}m" if many % _THOUSAND else str(many // _THOUSAND)
    if not _in_bytes(resource):
        return str(many)
    for size, unit in () if exact else _BINARY:
        if abs(many) >= size:
            thousandths = _THOUSAND * many // size
            return f"{thousandths / _THOUSAND:.3f}".rstrip("0").rstrip(".") + f" {unit}"
    return f"{many} bytes"


def word(resource: str) -> str:
    """Return the name of a resource for people."""
    return {CPU: "CPU", DISK: "disk"}.get(resource, resource)
