"""What differs between machines is data."""

import tomllib
from pathlib import Path

import pytest

from devcluster.engine import docker_works, missing_packages
from devcluster.errors import MissingToolError
from devcluster.hosts import Host, architecture, cache_folder

LAPTOP = Host(unified_cgroups=True, systemd=True, may_raise_limits=True, nofile=1_048_576)
SANDBOX = Host(unified_cgroups=False, systemd=False, may_raise_limits=False, nofile=20_000)


def machine(root: Path, capabilities: str, *, unified: bool, systemd: bool) -> Host:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/status").write_text(f"Name:\tx\nCapEff:\t{capabilities}\n")
    (root / "sys/fs/cgroup").mkdir(parents=True)
    if unified:
        (root / "sys/fs/cgroup/cgroup.controllers").touch()
    if systemd:
        (root / "run/systemd/system").mkdir(parents=True)
    return Host.here(root)


def test_a_laptop_and_a_sandbox_are_told_apart(tmp_path: Path) -> None:
    laptop = machine(tmp_path / "laptop", "000001ffffffffff", unified=True, systemd=True)
    sandbox = machine(tmp_path / "sandbox", "000001fffeffffff", unified=False, systemd=False)
    assert (laptop.unified_cgroups, laptop.systemd, laptop.may_raise_limits) == (True, True, True)
    assert (sandbox.unified_cgroups, sandbox.systemd, sandbox.may_raise_limits) == (False, False, False)


def test_podman_keeps_its_own_runtime_and_limits_on_a_laptop() -> None:
    assert tomllib.loads(LAPTOP.containers_conf()) == {
        "engine": {"cgroup_manager": "systemd"},
        "network": {"network_backend": "netavark"},
    }


def test_podman_asks_for_no_more_than_a_sandbox_grants() -> None:
    assert tomllib.loads(SANDBOX.containers_conf()) == {
        "containers": {"default_ulimits": ["nofile=20000:20000", "nproc=20000:20000"]},
        "engine": {"cgroup_manager": "cgroupfs", "runtime": "runc"},
        "network": {"network_backend": "netavark"},
    }


def test_containerd_is_patched_only_where_oom_scores_cannot_be_lowered() -> None:
    assert LAPTOP.containerd_patches() == []
    patches = [tomllib.loads(patch) for patch in SANDBOX.containerd_patches()]
    assert [patch["version"] for patch in patches] == [2, 3]
    assert all(settings == {"restrict_oom_score_adj": True} for p in patches for settings in p["plugins"].values())


@pytest.mark.parametrize(
    ("information", "host", "works"),
    [
        ('{"ServerVersion": "28.2.2"}', LAPTOP, True),
        ('{"ServerVersion": "28.2.2"}', SANDBOX, False),
        ('{"ServerVersion": "", "ServerErrors": ["Cannot connect to the Docker daemon"]}', LAPTOP, False),
        ("", LAPTOP, False),
        ("[1", LAPTOP, False),
    ],
)
def test_docker_is_taken_where_its_daemon_answers_and_may_do_what_nodes_need(
    information: str, host: Host, *, works: bool
) -> None:
    assert docker_works(information, host) is works


def test_an_unknown_architecture_is_named() -> None:
    assert architecture("x86_64") == "amd64"
    assert architecture("aarch64") == "arm64"
    with pytest.raises(MissingToolError, match="riscv64"):
        architecture("riscv64")


def test_the_cache_is_where_the_user_keeps_caches(tmp_path: Path) -> None:
    assert cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "skerry-devcluster"
    assert (tmp_path / "skerry-devcluster").is_dir()


def test_only_what_is_missing_is_installed(tmp_path: Path) -> None:
    for name in ("podman", "helper"):
        (tmp_path / name).touch(mode=0o755)
    packages = {
        "podman": "podman",
        "runc": "runc",
        "there": str(tmp_path / "helper"),
        "gone": str(tmp_path / "gone"),
    }
    assert missing_packages(packages, str(tmp_path)) == ["runc", "gone"]
