from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

import pytest

from virtio.vm import programs
from virtio.vm.cpio import Archive


def entries(data: bytes) -> list[tuple[str, int, bytes]]:
    """Names, modes and contents, read by the format's description."""
    found, at = [], 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = data[at + 110 : at + 110 + fields[11] - 1].decode()
        at = -(-(at + 110 + fields[11]) // 4) * 4
        if name == "TRAILER!!!":
            assert at == len(data)
            return found
        found.append((name, fields[1], data[at : at + fields[6]]))
        at = -(-(at + fields[6]) // 4) * 4


def test_entries_come_back_with_their_parents() -> None:
    stream = io.BytesIO()
    archive = Archive(stream)
    archive.file("/a/b/odd", b"12345", 0o755)
    archive.symlink("/a/link", "b/odd")
    archive.directory("a/b")
    archive.character_device("/dev/console", 5, 1)
    archive.finish()
    assert entries(stream.getvalue()) == [
        ("a", 0o040755, b""),
        ("a/b", 0o040755, b""),
        ("a/b/odd", 0o100755, b"12345"),
        ("a/link", 0o120777, b"b/odd"),
        ("dev", 0o040755, b""),
        ("dev/console", 0o020600, b""),
    ]


def test_another_program_unpacks_it(tmp_path: Path) -> None:
    busybox = programs.locate("busybox")
    if busybox is None:
        pytest.skip("busybox is not installed")
    stream = io.BytesIO()
    archive = Archive(stream)
    content = os.urandom(4097)
    archive.file("dir/file", content, 0o640)
    archive.symlink("dir/link", "file")
    archive.finish()
    subprocess.run(
        [busybox, "cpio", "-i", "-d"], input=stream.getvalue(), cwd=tmp_path, check=True, stderr=-3
    )
    assert (tmp_path / "dir/link").read_bytes() == content
    assert (tmp_path / "dir/file").stat().st_mode & 0o777 == 0o640


def test_a_name_cannot_leave_the_archive() -> None:
    with pytest.raises(ValueError, match="leaves"):
        Archive(io.BytesIO()).file("/a/../../etc/passwd", b"")
