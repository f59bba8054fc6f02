"""Names follow from inputs."""

from hypothesis import given
from hypothesis import strategies as st

from skerry.planning.naming import NAME_LIMIT, job_name

names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?", fullmatch=True)


@given(names, names, st.dictionaries(st.text(max_size=5), st.integers(), max_size=3))
def test_names_are_valid_and_the_same_for_the_same_inputs(model: str, accelerator: str, inputs: dict[str, int]) -> None:
    name = job_name(model, accelerator, inputs)

    assert len(name) <= NAME_LIMIT
    assert name[0].isalnum()
    assert name == job_name(model, accelerator, dict(reversed(inputs.items())))


@given(names, names)
def test_a_change_of_inputs_is_a_new_name(model: str, accelerator: str) -> None:
    assert job_name(model, accelerator, {"a": 1}) != job_name(model, accelerator, {"a": 2})


def test_long_names_that_are_cut_stay_distinct() -> None:
    long = "m" * 52
    assert job_name(long, "accelerator-one", {}) != job_name(long, "accelerator-two", {})
