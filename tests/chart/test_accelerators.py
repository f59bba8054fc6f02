"""The catalogue in the chart: what operator and probe get, and what is refused at installation."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from skerry.accelerators.catalogue import catalogue, checked
from skerry.accelerators.generate import rendered
from skerry.accelerators.matching import conflicts, specificity
from tests.chart.conftest import CHART, NAMESPACE, RELEASE, Helm, Render, Rendered


def entry(name: str, *matches: dict[str, Any], **more: Any) -> dict[str, Any]:
    frameworks = [{"name": "OpenVINO", "reason": "a test", "source": "a test"}]
    return {"name": name, "description": "A test.", "match": list(matches), "frameworks": frameworks, **more}


def values(folder: Path, *entries: dict[str, Any]) -> tuple[str, str]:
    path = folder / "values.yaml"
    path.write_text(yaml.safe_dump({"accelerators": {"extra": list(entries)}}), encoding="utf-8")
    return "--values", str(path)


def known(found: Rendered) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(
        found.of("ConfigMap")[f"{RELEASE}-accelerators"]["data"]["catalogue.json"]
    )
    return entries


def test_the_chart_has_the_catalogue_of_the_code() -> None:
    for name, text in rendered(CHART).items():
        assert (CHART / name).read_text(encoding="utf-8") == text, "run `make generate`"


def test_operator_and_probe_read_the_built_in_entries_and_the_sites_own(render: Render, tmp_path: Path) -> None:
    found = render(*values(tmp_path, entry("mine", {"pci": {"vendor": "abcd"}})))

    assert [each["name"] for each in known(found)] == [*catalogue(), "mine"]
    assert checked(known(found))["mine"].own_resource == "skerry.dev/mine"
    for pod in ("Deployment/edge-operator", "DaemonSet/edge-probe"):
        spec = found.pods()[pod]
        assert {"name": "accelerators", "configMap": {"name": "edge-accelerators"}} in spec["volumes"]
        mounts = spec["containers"][0]["volumeMounts"]
        assert {"name": "accelerators", "mountPath": "/etc/skerry/accelerators", "readOnly": True} in mounts


def test_a_new_entry_restarts_what_reads_it(render: Render, default: Rendered, tmp_path: Path) -> None:
    found = render(*values(tmp_path, entry("mine", {"pci": {"vendor": "abcd"}})))

    for kind, name in (("Deployment", "edge-operator"), ("DaemonSet", "edge-probe")):
        before, after = (each.of(kind)[name]["spec"]["template"]["metadata"] for each in (default, found))
        assert before["annotations"] != after["annotations"]


NPU = {"vendor": "8086", "devices": ["7d1d"]}
OPENVINO = {"framework": "OpenVINO", "precision": "FP32", "technique": "Conversion"}
BAD = {
    "no field of that name": (entry("mine", {"pci": {"vendor": "abcd"}}, driver="x"), "'driver' not allowed"),
    "upper case": (entry("mine", {"pci": {"vendor": "ABCD"}}), "/accelerators/extra/0/match/0/pci/vendor"),
    "no frameworks": (entry("mine", {"pci": {"vendor": "abcd"}}, frameworks=[]), "/accelerators/extra/0/frameworks"),
    "nothing to match": (entry("mine", {}), "accelerators.extra[0].match[0] (mine) must say something"),
    "no match": (entry("mine"), "accelerators.extra[0] (mine): match must have a way to recognise it"),
    "a variable that is none": (
        entry("mine", {"pci": {"vendor": "abcd"}}, pod={"env": {"A-B": "x"}}),
        "/accelerators/extra/0/pod/env",
    ),
    "a candidate without device": (
        entry("mine", {"pci": {"vendor": "abcd"}}, devices={}, candidates=[OPENVINO]),
        "accelerators.extra[0].candidates[0] (mine): devices does not say on which device OpenVINO runs",
    ),
    "a device of no framework": (
        entry("mine", {"pci": {"vendor": "abcd"}}, devices={"ONNXRuntime": "CPUExecutionProvider"}),
        "accelerators.extra[0].devices (mine): ONNXRuntime is not among its frameworks",
    ),
    "a name twice": (
        entry("intel-npu", {"pci": {"vendor": "abcd"}}),
        "there is an accelerator named intel-npu already",
    ),
    "a device twice": (
        entry("mine", {"pci": {"vendor": "abcd"}}, {"pci": NPU}),
        "accelerators.extra[0].match[1]: intel-npu and mine both match PCI 8086:7d1d, and neither is more specific",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_entry_fails_the_installation_and_says_where(helm: Helm, tmp_path: Path, name: str) -> None:
    wrong, message = BAD[name]

    done = helm("template", RELEASE, CHART, "--namespace", NAMESPACE, *values(tmp_path, wrong))

    assert done.returncode != 0
    assert message in done.stderr


MATCHES: list[dict[str, Any]] = [
    {"pci": {"vendor": "aaaa"}},
    {"pci": {"vendor": "aaaa", "classPrefix": "03"}},
    {"pci": {"vendor": "aaaa", "classPrefix": "0302"}},
    {"pci": {"vendor": "aaaa", "classPrefix": "12"}},
    {"pci": {"vendor": "aaaa", "devices": ["0001", "0002"]}},
    {"pci": {"vendor": "aaaa", "devices": ["0002", "0003"]}},
    {"pci": {"vendor": "bbbb", "devices": ["0002"]}},
    {"pci": {"vendor": "aaaa", "devices": ["0003"]}, "device": {"deviceClass": "accel", "drivers": ["x"]}},
    {"pci": {"vendor": "aaaa", "devices": ["0003"]}, "device": {"deviceClass": "accel", "drivers": ["z"]}},
    {"usb": {"vendor": "aaaa", "products": ["0001"]}},
    {"usb": {"vendor": "aaaa", "products": ["0001", "0002"]}},
    {"deviceTree": {"compatible": ["a,b", "c,d"]}},
    {"deviceTree": {"compatible": ["c,d"]}},
    {"deviceTree": {"compatible": ["e,f"]}},
    {"device": {"deviceClass": "misc", "names": ["a", "b"]}},
    {"device": {"deviceClass": "misc", "names": ["b"]}},
    {"device": {"deviceClass": "drm-render", "drivers": ["b"]}},
    {"nodeLabels": {"a": "b"}},
    {"nodeLabels": {"a": "b", "c": "d"}},
]


def test_chart_and_code_agree_on_what_is_in_conflict(helm: Helm, tmp_path: Path) -> None:
    """Each pair that the code finds in conflict is refused by the chart, and each other one of equal rank is taken."""
    fine = []
    for one, other in itertools.combinations_with_replacement(MATCHES, 2):
        pair = [entry("one", one), entry("other", other)]
        told = list(conflicts(pair))
        if told:
            done = helm("template", RELEASE, CHART, *values(tmp_path, *pair))
            assert told[0] in done.stderr, (one, other)
        elif specificity(one) == specificity(other):
            fine.append((one, other))
    assert len(fine) > len(MATCHES) / 2
    for one, other in fine:
        done = helm("template", RELEASE, CHART, *values(tmp_path, entry("one", one), entry("other", other)))
        assert done.returncode == 0, (one, other, done.stderr)
