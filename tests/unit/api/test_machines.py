"""Machines, as Kubernetes names them."""

import platform

import pytest

from skerry.api.machines import architecture


@pytest.mark.parametrize(
    ("machine", "name"), [("x86_64", "amd64"), ("aarch64", "arm64"), ("armv8l", "arm"), ("riscv64", "riscv64")]
)
def test_a_machine_is_called_as_kubernetes_calls_it(machine: str, name: str) -> None:
    assert architecture(machine) == name


def test_without_a_name_it_is_this_machine() -> None:
    assert architecture() == architecture(platform.machine())
