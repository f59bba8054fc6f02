"""Quantities of Kubernetes as amounts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.api.quantities import QuantityError, added, amount, figure, word


@pytest.mark.parametrize(
    ("resource", "quantity", "expected"),
    [
        ("cpu", "500m", 500),
        ("cpu", "2", 2000),
        ("cpu", 2, 2000),
        ("cpu", "0.1", 100),
        ("cpu", "100u", 1),
        ("memory", "128974848", 128974848),
        ("memory", "129e6", 129000000),
        ("memory", "129M", 129000000),
        ("memory", "123Mi", 123 << 20),
        ("memory", "1.5Gi", 3 << 29),
        ("memory", "1500m", 2),
        ("memory", "1E", 10**18),
        ("memory", "1E3", 1000),
        ("memory", ".5Ki", 512),
        ("memory", "5.", 5),
        ("memory", "+1k", 1000),
        ("nvidia.com/gpu", "2", 2),
        ("memory", "9007199254740993", 9007199254740993),
        ("ephemeral-storage", "0.1234567890123456789Ei", -(-1234567890123456789 * 2**60 // 10**19)),
    ],
)
def test_quantities_are_read_exactly_and_rounded_up(resource: str, quantity: int | str, expected: int) -> None:
    assert amount(resource, quantity) == expected


@pytest.mark.parametrize("text", ["", "1 Gi", "Gi", "1GiB", "0x10", "1/3", "1_000", "1e9999999", "NaN", "\u0661"])
def test_what_is_no_quantity_is_refused_with_examples(text: str) -> None:
    with pytest.raises(QuantityError, match=r"is no quantity; quantities look like 500m, 2, 1\.5Gi or 1e3"):
        amount("memory", text)


@given(st.integers(min_value=0, max_value=1 << 50))
def test_whole_numbers_stay_what_they_are(number: int) -> None:
    assert amount("memory", str(number)) == number
    assert amount("cpu", f"{number}m") == number


@pytest.mark.parametrize(
    ("resource", "many", "expected"),
    [
        ("cpu", 500, "500m"),
        ("cpu", 2000, "2"),
        ("memory", 3 << 29, "1.5 GiB"),
        ("memory", 512, "512 bytes"),
        ("ephemeral-storage", 100 << 20, "100 MiB"),
        ("skerry.dev/intel-npu", 1, "1"),
    ],
)
def test_amounts_in_words(resource: str, many: int, expected: str) -> None:
    assert figure(resource, many) == expected


def test_an_exact_figure_is_in_bytes() -> None:
    assert figure("memory", (1 << 30) - 1) == "1023.999 MiB"
    assert figure("memory", (1 << 30) - 1, exact=True) == "1073741823 bytes"


def test_sums_and_names() -> None:
    assert added({"cpu": 1}, {"cpu": 2, "memory": 3}) == {"cpu": 3, "memory": 3}
    assert [word(name) for name in ("cpu", "memory", "ephemeral-storage")] == ["CPU", "memory", "disk"]
