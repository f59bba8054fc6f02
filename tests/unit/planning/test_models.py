"""What an EdgeModel needs and what its status says."""

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest

from skerry.api.conditions import find, merged
from skerry.api.edgemodel import EdgeModelSpec, EdgeModelStatus
from skerry.api.optimizationjob import OptimizationJobStatus
from skerry.api.reasons import JobReason
from skerry.api.types import CandidateResult, Framework, Metric, MetricFigure, Precision, Technique
from skerry.planning.models import Known, ObservedJob, model_status, outdated, superfluous, wanted_jobs

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
CPU = frozenset({"cpu"})
FINAL = {JobReason.SUCCEEDED, JobReason.BASELINE_ONLY, JobReason.GATES_FAILED, JobReason.BAD_MODEL}


def spec(**fields: Any) -> EdgeModelSpec:
    return EdgeModelSpec.model_validate({"source": {"uri": "oci://r/m:1"}, **fields})


def job(
    name: str, reason: JobReason, *, accelerator: str = "cpu", created: str = "1", artifact: str = ""
) -> ObservedJob:
    good = reason in {JobReason.SUCCEEDED, JobReason.BASELINE_ONLY}
    status = OptimizationJobStatus(
        conditions=list(
            merged((), "Complete", status=good, reason=reason, message=f"told by {name}", generation=1, now=NOW)
        ),
        completion_time=NOW if reason in FINAL else None,
        artifact=artifact or None,
        chosen="openvino-fp32" if artifact else None,
        candidates=[
            CandidateResult(
                name="openvino-fp32",
                framework=Framework.OPENVINO,
                precision=Precision.FP32,
                technique=Technique.CONVERSION,
            )
        ],
        metrics=[MetricFigure(name=Metric.LATENCY_P95, baseline="3.0", value="1.5", unit="ms")],
    )
    return ObservedJob(name, accelerator, created, status)


def status(jobs: list[ObservedJob], present: frozenset[str] = CPU, **fields: Any) -> EdgeModelStatus:
    wanted = wanted_jobs("digits", spec(**fields), present)
    known = Known(present, {"zzz": "the catalogue has no accelerator 'zzz'"}, asked="accelerators" in fields)
    return model_status(EdgeModelStatus(), 7, wanted, jobs, known, NOW)


def ready(found: EdgeModelStatus) -> tuple[str, str, str]:
    condition = find(found.conditions, "Ready")
    assert condition is not None
    return condition.status, condition.reason, condition.message


def name_for(accelerator: str = "cpu", **fields: Any) -> str:
    return next(
        item.name
        for item in wanted_jobs("digits", spec(**fields), frozenset({accelerator}))
        if item.accelerator == accelerator
    )


def test_one_job_for_each_accelerator_that_is_present() -> None:
    wanted = wanted_jobs("digits", spec(), frozenset({"intel-npu", "cpu"}))
    assert [item.accelerator for item in wanted] == ["cpu", "intel-npu"]
    assert len({item.name for item in wanted}) == 2


def test_accelerators_that_are_named_count_whether_present_or_not() -> None:
    assert [item.accelerator for item in wanted_jobs("digits", spec(accelerators=["b", "a"]), CPU)] == ["b", "a"]


def test_what_was_begun_stays_wanted_while_its_accelerator_is_absent() -> None:
    running = job(name_for("intel-npu"), JobReason.RUNNING, accelerator="intel-npu")
    wanted = wanted_jobs("digits", spec(), CPU, [running])

    assert [item.accelerator for item in wanted] == ["cpu", "intel-npu"]
    assert superfluous([running], wanted, []) == []
    found = model_status(EdgeModelStatus(), 7, wanted, [running], Known(CPU), NOW)
    assert [(variant.accelerator, variant.reason) for variant in found.variants] == [
        ("cpu", "Pending"),
        ("intel-npu", "WaitingForAccelerator"),
    ]


def test_a_variant_that_is_there_serves_while_another_accelerator_is_away() -> None:
    done = job(name_for(), JobReason.SUCCEEDED, artifact="oci://r/m@sha256:1")
    away = job(name_for("intel-npu"), JobReason.RUNNING, accelerator="intel-npu")
    kept = job(name_for("intel-npu"), JobReason.SUCCEEDED, accelerator="intel-npu", artifact="oci://r/n@sha256:1")

    for other, count in ((away, "1/2"), (kept, "2/2")):
        wanted = wanted_jobs("digits", spec(), CPU, [done, other])
        found = model_status(EdgeModelStatus(), 7, wanted, [done, other], Known(CPU), NOW)
        assert ready(found)[:2] == ("True", "Optimized")
        assert found.variants_ready == count


def test_what_ended_or_was_begun_for_another_spec_is_not_wanted_without_its_accelerator() -> None:
    ended = job(name_for("intel-npu"), JobReason.GATES_FAILED, accelerator="intel-npu")
    other = job(name_for("nvidia-gpu", gates=[]), JobReason.RUNNING, accelerator="nvidia-gpu")

    wanted = wanted_jobs("digits", spec(), CPU, [ended, other])

    assert [item.accelerator for item in wanted] == ["cpu"]
    assert superfluous([ended, other], wanted, []) == [other.name]


def test_names_stay_the_same_from_version_to_version() -> None:
    """Another name would have every model of every site optimized again."""
    whole = {"uri": "oci://r/m:1", "credentialsSecretName": "mine"}
    data = {"uri": "pvc://data/x.npz", "sha256": "0" * 64}
    assert [name_for(), name_for(source=whole), name_for(evaluation=data, objective="Balanced")] == [
        *["digits-cpu-15bc2e06"] * 2,
        "digits-cpu-5f0ed209",
    ]


def test_a_change_of_gates_is_a_new_job_and_one_of_limits_is_not() -> None:
    assert name_for() != name_for(gates=[])
    assert name_for() == name_for(optimization={"activeDeadlineSeconds": 120})


def test_without_profiles_the_model_waits_for_nodes() -> None:
    assert ready(status([], frozenset()))[:2] == ("False", "WaitingForNodes")


def test_an_accelerator_that_nobody_has_is_waited_for_by_name() -> None:
    found = ready(status([], accelerators=["intel-npu"]))
    assert found[:2] == ("False", "WaitingForAccelerator")
    assert "intel-npu" in found[2]
    assert "the nodes have cpu" in found[2]


def test_an_accelerator_that_is_none_is_not_said_to_be_absent() -> None:
    found = status([], accelerators=["zzz", "intel-npu"])
    assert ready(found)[2] == (
        "the catalogue has no accelerator 'zzz'; no node has the accelerator intel-npu; the nodes have cpu"
    )
    assert found.variants[0].message == "the catalogue has no accelerator 'zzz'"
    meanwhile = ready(status([], accelerators=["zzz", "cpu"]))
    assert meanwhile[1] == "Optimizing"
    assert meanwhile[2].endswith("; the catalogue has no accelerator 'zzz'")


def test_a_job_under_way_is_optimizing() -> None:
    assert ready(status([job(name_for(), JobReason.RUNNING)]))[:2] == ("False", "Optimizing")


def test_a_published_variant_makes_the_model_ready() -> None:
    found = status([job(name_for(), JobReason.SUCCEEDED, artifact="oci://r/m@sha256:1")])

    assert ready(found)[:2] == ("True", "Optimized")
    assert (found.variants_ready, found.best, found.speedup) == ("1/1", "OpenVINO/FP32", "2.0x")
    assert found.observed_generation == 7


def test_variants_are_listed_in_the_order_of_the_objective() -> None:
    present = frozenset({"cpu", "intel-npu"})
    jobs = [
        job(name_for(name), JobReason.SUCCEEDED, accelerator=name, artifact=f"oci://r/{name}@sha256:1")
        for name in sorted(present)
    ]
    assert [variant.accelerator for variant in status(jobs, present).variants] == ["intel-npu", "cpu"]


def test_the_baseline_alone_is_said_to_be_that() -> None:
    found = status([job(name_for(), JobReason.BASELINE_ONLY, artifact="oci://r/m@sha256:1")])
    assert ready(found)[:2] == ("True", "BaselineOnly")


def test_a_failure_keeps_the_variant_that_was_published_before() -> None:
    old = job("old", JobReason.SUCCEEDED, artifact="oci://r/m@sha256:1")
    new = job(name_for(), JobReason.GATES_FAILED, created="2")

    found = status([old, new])

    assert ready(found)[:2] == ("False", "GatesFailed")
    assert "goes on serving" in ready(found)[2]
    (variant,) = found.variants
    assert variant.artifact == "oci://r/m@sha256:1"
    assert variant.optimization_job_name == "old"
    assert variant.reason == "GatesFailed"


def test_while_a_new_job_runs_the_old_variant_stays() -> None:
    old = job("old", JobReason.SUCCEEDED, artifact="oci://r/m@sha256:1")
    found = status([old, job(name_for(), JobReason.RUNNING, created="2")])
    assert ready(found)[1] == "Optimizing"
    assert found.variants[0].artifact == "oci://r/m@sha256:1"


def test_an_accelerator_that_went_away_leaves_its_finished_variant_ready() -> None:
    finished = job(name_for("cpu", accelerators=["cpu"]), JobReason.SUCCEEDED, artifact="oci://r/m@sha256:1")
    found = status([finished], frozenset({"intel-npu"}), accelerators=["cpu"])
    assert ready(found)[0] == "True"


@pytest.mark.parametrize("reason", [JobReason.BAD_MODEL, JobReason.SOURCE_UNREACHABLE])
def test_trouble_with_the_source_is_told_by_source_verified(reason: JobReason) -> None:
    condition = find(status([job(name_for(), reason)]).conditions, "SourceVerified")
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", str(reason))


def test_the_newest_three_finished_jobs_are_kept() -> None:
    jobs = [job(f"job{number}", JobReason.GATES_FAILED, created=str(number)) for number in range(6)]
    assert superfluous(jobs, [], []) == ["job0", "job1", "job2"]


def test_what_is_served_or_wanted_is_never_deleted_and_what_runs_unwanted_goes_at_once() -> None:
    wanted = wanted_jobs("digits", spec(), CPU)
    jobs = [
        job("served", JobReason.SUCCEEDED, created="0", artifact="oci://r/m@sha256:1"),
        *(job(f"job{number}", JobReason.GATES_FAILED, created=str(number)) for number in range(1, 5)),
        job(wanted[0].name, JobReason.RUNNING, created="5"),
        job("unwanted", JobReason.RUNNING, created="6"),
    ]
    assert superfluous(jobs, wanted, ["oci://r/m@sha256:1"]) == ["job1", "job2", "job3", "unwanted"]


@pytest.mark.parametrize(
    ("reason", "again"),
    [
        (JobReason.GATES_FAILED, True),
        (JobReason.BAD_MODEL, True),
        (JobReason.PENDING, True),
        (JobReason.SOURCE_UNREACHABLE, True),
        (JobReason.RUNNING, False),
        (JobReason.SUCCEEDED, False),
        (JobReason.BASELINE_ONLY, False),
    ],
)
def test_what_came_to_nothing_is_made_anew_when_it_would_be_run_otherwise(reason: JobReason, *, again: bool) -> None:
    wanted = wanted_jobs("digits", spec(optimization={"activeDeadlineSeconds": 7200}), CPU)
    (before,) = wanted_jobs("digits", spec(), CPU)
    found = dataclasses.replace(job(before.name, reason), spec=before.spec)

    assert outdated([found], wanted) == ([before.name] if again else [])
    assert outdated([dataclasses.replace(found, spec=wanted[0].spec)], wanted) == []
    assert outdated([dataclasses.replace(found, spec=None)], wanted) == [], "in a form that is not known here"
    suspended = before.spec.model_copy(update={"suspend": True})
    assert outdated([dataclasses.replace(found, spec=suspended)], wanted) == []
