"""What was built from the same inputs is not built again; what is half built is not there."""

import subprocess
import sys
from pathlib import Path

import pytest

from devcluster import cache

ROOT = Path(__file__).parents[3]


def test_a_digest_depends_on_content_and_order_not_on_where_parts_end(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("b")
    assert cache.digest("a", file) == cache.digest("a", "b") == cache.digest("a", b"b")
    assert len({cache.digest("ab"), cache.digest("a", "b"), cache.digest("b", "a"), cache.digest("", "ab")}) == 4


def test_a_tree_digest_depends_on_names_and_contents_alone(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x").write_text("1")
        (tmp_path / folder / "y").write_text("2")
    one, two = tmp_path / "one", tmp_path / "two"
    same = cache.tree_digest(one, [one / "x", one / "y"])
    assert cache.tree_digest(two, [two / "y", two / "x"]) == same
    (two / "y").rename(two / "z")
    assert cache.tree_digest(two, [two / "x", two / "z"]) != same


def test_a_folder_is_made_once_and_the_older_one_goes(tmp_path: Path) -> None:
    made: list[str] = []

    def make(work: Path) -> None:
        made.append(work.name)
        (work / "program").write_text("content")

    first = cache.folder(tmp_path, "part", "0123456789ab", make)
    assert cache.folder(tmp_path, "part", "0123456789ab", make) == first
    assert len(made) == 1
    second = cache.folder(tmp_path, "part", "ba9876543210", make)
    assert (second / "program").read_text() == "content"
    assert not first.exists()


def test_other_names_that_begin_alike_stay(tmp_path: Path) -> None:
    for name in ("part-two-0123456789ab", "part-build", "part-0123456789ab"):
        (tmp_path / name).mkdir()
    assert cache.older(tmp_path, "part", "ba9876543210") == [tmp_path / "part-0123456789ab"]


def test_a_failed_making_leaves_nothing(tmp_path: Path) -> None:
    def fail(work: Path) -> None:
        (work / "half").touch()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cache.folder(tmp_path, "part", "0123456789ab", fail)
    assert [path.name for path in tmp_path.iterdir()] == [".part.lock"]


def test_the_leftover_of_a_killed_making_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".part-killed").mkdir()
    cache.folder(tmp_path, "part", "0123456789ab", lambda _: None)
    assert not (tmp_path / ".part-killed").exists()


def test_scratch_folders_go_also_those_of_processes_that_are_gone(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    leftover = tmp_path / "scratch" / f"{ended.pid}-x"
    leftover.mkdir(parents=True)
    with cache.scratch(tmp_path) as outer, cache.scratch(tmp_path) as inner:
        assert not leftover.exists()
        assert outer.is_dir()
        assert outer != inner
    assert not list((tmp_path / "scratch").iterdir())


def test_of_two_runs_the_second_waits_says_so_and_a_kill_frees_the_lock(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from devcluster import cache\n"
        "with cache.lock(Path(sys.argv[1]), 'name'):\n    print('has it', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert first.stdout
    assert first.stdout.readline() == "has it\n"
    second = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert second.stdout
        assert second.stderr
        assert second.stderr.readline() == "== waiting for another run that works on name\n"
        first.kill()
        assert second.stdout.readline() == "has it\n"
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()
