"""The catalogue: what it says is known to the other parts."""

import pytest
from pydantic import ValidationError

from skerry.accelerators.catalogue import AcceleratorEntry, catalogue
from skerry.accelerators.cpu import FEATURES
from skerry.planning.candidates import check


def test_all_features_and_candidates_of_the_catalogue_exist() -> None:
    for name, entry in catalogue().items():
        assert entry.name == name
        features = {*entry.native_int8, *(half.feature for half in entry.native_half)}
        assert features <= FEATURES.keys()
        for candidate in entry.candidates:
            check(candidate)


def test_devices_are_those_that_the_server_s_image_has() -> None:
    """images/server/Dockerfile removes OpenVINO's other plugins, and its ONNX Runtime is that for the CPU."""
    devices = {device for entry in catalogue().values() for device in entry.devices.values()}
    assert devices == {"CPU", "CPUExecutionProvider"}


def test_frameworks_and_devices_must_agree() -> None:
    document = catalogue()["cpu"].wire()
    del document["devices"]["OpenVINO"]
    with pytest.raises(ValidationError, match="candidates must be of frameworks in devices"):
        AcceleratorEntry.model_validate(document)
