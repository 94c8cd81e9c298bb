"""Groups with little memory: where they are made, that they work, and that nothing of them stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from virtio.errors import HostError
from virtio.testing.cgroup import Hierarchy, MemoryGroup, hierarchies, memory_group

MIB = 1 << 20


@pytest.fixture
def group() -> MemoryGroup:
    """Groups can be had here."""
    try:
        with memory_group(64 * MIB) as made:
            return made
    except HostError as error:
        pytest.skip(str(error))


def test_a_process_inside_has_no_more_than_the_limit(group: MemoryGroup, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(32 * MIB))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    code = "print(open('/proc/self/cgroup').read())"
    reads = (
        f"for _ in range(3):\n file = open({str(path)!r}, 'rb', buffering=0)\n while file.read(65536): pass"
    )
    with memory_group(16 * MIB) as little:
        assert little.path.is_dir()
        said = subprocess.run(
            little.inside([sys.executable, "-c", code]), capture_output=True, text=True, check=True
        ).stdout
        assert little.path.name in said
        subprocess.run(little.inside([sys.executable, "-c", reads]), check=True)
        assert little.refaults > 1000
        assert little.kills == 0
    assert not little.path.exists()
    assert not group.path.exists()


def test_a_process_that_does_not_fit_is_killed(group: MemoryGroup) -> None:
    with memory_group(group.limit // 8) as little:
        code = "bytearray(b'x') * (64 << 20)"
        assert subprocess.run(little.inside([sys.executable, "-c", code]), check=False).returncode < 0
        assert little.kills == 1


def test_what_is_left_in_a_group_ends_with_it(group: MemoryGroup) -> None:
    with memory_group(group.limit) as own:
        process = subprocess.Popen(own.inside(["sleep", "100"]))
        while str(process.pid) not in (own.path / "cgroup.procs").read_text().split():
            assert process.poll() is None
    assert process.wait() == -9
    assert not own.path.exists()


# Where they are made: trees that look like those of the kernel.


def make_tree(folder: Path, *, handed_on: str = "") -> Hierarchy:
    """Version 2: a slice that may hand its memory controller on, and our session in it."""
    session = folder / "user.slice" / "session.scope"
    session.mkdir(parents=True)
    for place, controllers in ((folder, "cpu memory"), (session.parent, handed_on), (session, "")):
        (place / "cgroup.subtree_control").write_text(controllers + "\n")
    return Hierarchy(2, folder, session)


def test_version_2_makes_them_where_the_controller_is_handed_on(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "one", handed_on="memory pids")
    assert list(tree.parents()) == [tree.ours.parent, tree.top]
    tree = make_tree(tmp_path / "two", handed_on="pids")
    assert list(tree.parents()) == [tree.top]


def test_version_1_makes_them_in_our_own(tmp_path: Path) -> None:
    assert list(Hierarchy(1, tmp_path, tmp_path / "ours").parents()) == [tmp_path / "ours"]


def test_a_refusal_leaves_nothing_behind(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, handed_on="memory")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(HostError, match="No such file"), memory_group(MIB, among=[tree]):
        pass
    with pytest.raises(HostError, match="handed on"), memory_group(MIB, among=[]):
        pass
    assert sorted(tmp_path.rglob("*")) == before


MOUNTS = """\
22 1 0:20 / /sys rw - sysfs sysfs rw
30 22 0:26 {root} {folder}/unified rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate
31 22 0:27 / {folder}/memory rw - cgroup cgroup rw,memory
32 22 0:28 / {folder}/cpu rw shared:6 - cgroup cgroup rw,cpu
"""


@pytest.mark.parametrize("root", ["/", "/docker/1"])
def test_what_is_mounted_is_found(tmp_path: Path, root: str) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS.format(folder=tmp_path, root=root))
    inner = "/user.slice/mine"
    (tmp_path / "cgroup").write_text(f"4:memory:/a\n2:cpu:/\n0::{root.rstrip('/')}{inner}\n")
    (tmp_path / f"unified{inner}").mkdir(parents=True)
    (tmp_path / "memory").mkdir()
    assert hierarchies(tmp_path) == [
        Hierarchy(2, tmp_path / "unified", tmp_path / "unified/user.slice/mine"),
        Hierarchy(1, tmp_path / "memory", tmp_path / "memory"),  # our place in it cannot be seen
    ]


def test_no_group_at_all(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text("22 1 0:20 / /sys rw - sysfs sysfs rw\n")
    (tmp_path / "cgroup").write_text("")
    assert hierarchies(tmp_path) == []
