"""Which variant a deployment runs."""

import pytest

from skerry.api.edgemodel import Variant
from skerry.planning.placement import choose_variant


def variant(accelerator: str, artifact: str | None = "oci://r/m@sha256:1") -> Variant:
    return Variant(accelerator=accelerator, optimization_job_name="j", artifact=artifact)


CPU, NPU, UNPUBLISHED = variant("cpu"), variant("intel-npu"), variant("coral", None)
ALL = frozenset({"cpu", "intel-npu", "coral"})


@pytest.mark.parametrize(
    ("preferred", "present", "expected"),
    [
        ([], ALL, CPU),
        (["intel-npu", "cpu"], ALL, NPU),
        (["intel-npu", "cpu"], frozenset({"cpu"}), CPU),
        (["coral"], ALL, None),
        (["intel-npu"], frozenset({"cpu"}), None),
        ([], frozenset(), None),
    ],
)
def test_the_most_preferred_variant_that_can_run(
    preferred: list[str], present: frozenset[str], expected: Variant | None
) -> None:
    assert choose_variant([CPU, NPU, UNPUBLISHED], preferred, present) == expected
