from __future__ import annotations

import os
from pathlib import Path

import pytest

from virtio.errors import UsageError
from virtio.vm import Blk, uml
from virtio.vm.setup import Lines, Setup

LINES = Lines("/d/console.log", serial=(20, 21))


def test_a_guest_with_agent(tmp_path: Path) -> None:
    setup = Setup(
        256 << 20, devices=[Blk("/run/s")], kernel=Path("/linux"), initrd=Path("/i"), append=["vm_token=x"]
    )
    command = uml.command("/linux", setup, LINES, tmp_path)
    assert command[:4] == ["/linux", "mem=262144K", f"uml_dir={tmp_path}/", "umid=guest"]
    assert {"initrd=/i", "rdinit=/init", "con0=null,fd:1", "con1=fd:20", "con2=fd:21"} <= set(command)
    assert {"vm_out=tty1", "vm_err=tty2", "vm_token=x", "virtio_uml.device=/run/s:2"} <= set(command)


@pytest.mark.parametrize("name", ["with blank", "with:colon", "n" * 101, "größe"])
def test_odd_socket_paths_get_an_alias(tmp_path: Path, name: str) -> None:
    path = f"/run/{name}"
    command = uml.command("/linux", Setup(64 << 20, devices=[Blk(path)]), LINES, tmp_path)
    assert f"virtio_uml.device={tmp_path}/device0:2" in command
    assert os.readlink(tmp_path / "device0") == path


def test_a_relative_socket_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/usr")
    command = uml.command("/linux", Setup(64 << 20, devices=[Blk("s")]), LINES, tmp_path)
    assert "virtio_uml.device=/usr/s:2" in command


def test_one_processor_only(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one processor"):
        uml.command("/linux", Setup(64 << 20, cpus=2), LINES, tmp_path)


def test_memory_is_on_a_tmpfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    assert uml.environment(tmp_path) == {"TMPDIR": "/dev/shm"}
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert uml.environment(tmp_path) == {"TMPDIR": str(tmp_path)}
