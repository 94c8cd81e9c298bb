from __future__ import annotations

import io
from pathlib import Path

import pytest

from virtio.errors import HostError, UsageError
from virtio.vm import programs
from virtio.vm.initramfs import HostFile, Initramfs, host_files
from virtio.vm.kernels import Kernel
from virtio.vm.modules import ModuleTree

from .test_cpio import entries


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    directory = tmp_path / "6.1.0"
    directory.mkdir()
    (directory / "modules.dep").write_text("a.ko:\nb.ko: a.ko\next4.ko:\n")
    (directory / "modules.builtin").write_text("")
    (directory / "modules.alias").write_text("alias fs-ext4 ext4\nalias x other\n")
    for name in ("a", "b", "ext4"):
        (directory / f"{name}.ko").write_bytes(name.encode())
    return Kernel(Path("/vmlinuz"), ModuleTree(directory))


@pytest.fixture
def busybox() -> str:
    found = programs.locate("busybox")
    if found is None:
        pytest.skip("busybox is not installed")
    return found


def content(initramfs: Initramfs) -> dict[str, bytes]:
    stream = io.BytesIO()
    initramfs.write(stream)
    return {name: data for name, _, data in entries(stream.getvalue())}


def test_what_is_in_it(kernel: Kernel, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "mount").write_bytes(b"my own mount")
    files = (HostFile("/usr/sbin/mount", str(tmp_path / "mount")),)
    found = content(Initramfs(kernel, ("b",), files))
    assert found["init"].startswith(b"#!/bin/busybox sh\n")
    assert found["bin/sh"] == b"/bin/busybox"
    assert found["etc/modules-boot"] == b"a.ko\nb.ko\n"
    assert found["lib/modules/6.1.0/ext4.ko"] == b"ext4"
    assert found["lib/modules/6.1.0/modules.dep"] == b"a.ko: \nb.ko: a.ko\next4.ko: \n"
    assert found["lib/modules/6.1.0/modules.alias"] == b"alias fs-ext4 ext4\n"
    assert found["usr/sbin/mount"] == b"my own mount"
    assert "bin/mount" not in found, "the file of the host is the only one of its name"


def test_the_key_follows_the_content(kernel: Kernel, busybox: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_bytes(b"1")
    initramfs = Initramfs(kernel, (), (HostFile("/mine", str(mine)),))
    first = initramfs.path()
    assert initramfs.path() == first
    assert Initramfs(kernel, ("a",), initramfs.files).path() != first
    mine.write_bytes(b"22")
    assert initramfs.path() != first


def test_files_keep_their_path_and_bring_their_libraries(tmp_path: Path) -> None:
    found = {file.guest: file.host for file in host_files(["ls"])}
    assert any(path.endswith("/ls") for path in found)
    assert any("libc.so" in path for path in found)
    assert all(guest == host for guest, host in found.items())


def test_files_may_go_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/one").write_bytes(b"")
    (tmp_path / "two").write_bytes(b"")
    found = host_files({str(tmp_path): "/data/"})
    assert [file.guest for file in found] == ["/data/deep/one", "/data/two"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no-such-thing is not on this machine"):
        host_files(["no-such-thing"])
    with pytest.raises(HostError, match="not on this machine"):
        host_files([tmp_path / "nothing"])


def test_a_relative_guest_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'here' is not an absolute path"):
        host_files({"/etc/passwd": "here"})


def test_a_dynamic_busybox_is_refused(monkeypatch: pytest.MonkeyPatch, kernel: Kernel) -> None:
    monkeypatch.setattr(programs, "locate", lambda name: "/bin/ls")
    with pytest.raises(HostError, match="not statically linked"):
        Initramfs(kernel)
