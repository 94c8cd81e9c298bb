from __future__ import annotations

import os
from pathlib import Path

import pytest

from virtio.errors import HostError
from virtio.vm import kernels


def install(root: Path, release: str, *, modules: bool = True) -> None:
    (root / "boot").mkdir(exist_ok=True)
    (root / "boot" / f"vmlinuz-{release}").write_bytes(b"kernel")
    (root / "modules" / release).mkdir(parents=True)
    if modules:
        (root / "modules" / release / "modules.dep").write_text("")


def find(root: Path) -> str:
    return kernels.find_qemu(root / "boot", root / "modules").modules.release


def test_the_newest_cloud_kernel_is_best(tmp_path: Path) -> None:
    install(tmp_path, "6.1.0-9-amd64")
    install(tmp_path, "6.12.0-10-amd64")
    assert find(tmp_path) == "6.12.0-10-amd64"
    install(tmp_path, "6.1.0-9-cloud-amd64")
    install(tmp_path, "6.1.0-10-cloud-amd64")
    install(tmp_path, "6.1.0-11-cloud-amd64", modules=False)
    assert find(tmp_path) == "6.1.0-10-cloud-amd64"


def test_no_kernel_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no kernel with its modules") as raised:
        find(tmp_path)
    assert raised.value.fix == "apt install linux-image-cloud-amd64"


def test_a_kernel_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "6.1.0-9-amd64")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(HostError, match="may not be read") as raised:
        find(tmp_path)
    assert "chmod a+r" in raised.value.fix


def test_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(HostError, match="this machine is aarch64"):
        find(tmp_path)


def fake_uml(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = root / "linux.uml"
    program.write_text("#!/bin/sh\necho 6.1.7\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(root), prepend=":")


def test_uml_with_its_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_uml(tmp_path, monkeypatch)
    with pytest.raises(HostError, match=r"linux\.uml is 6\.1\.7, without its modules"):
        kernels.find_uml(tmp_path)
    (tmp_path / "6.1.7").mkdir()
    (tmp_path / "6.1.7" / "modules.dep").write_text("")
    found = kernels.find_uml(tmp_path)
    assert (found.image, found.modules.release) == (tmp_path / "linux.uml", "6.1.7")


def test_missing_uml_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("virtio.vm.programs.locate", lambda name: None)
    with pytest.raises(HostError, match=r"linux\.uml is not installed") as raised:
        kernels.find_uml()
    assert raised.value.fix == "apt install user-mode-linux"
