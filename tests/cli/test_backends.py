"""``virtio backends``, and the lines for front-ends."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from click.testing import CliRunner

from virtio.cli.app import root
from virtio.cli.capabilities import PROGRAMS
from virtio.cli.frontends import FRONTENDS, Attachable, lines_for

DISK = Attachable(2, "/run/d,1.sock", num_queues=4)
OWN = Attachable(42, "/run/own.sock", num_queues=2, queue_size=64, config_size=8)


def backends(*arguments: str) -> str:
    result = CliRunner().invoke(root, ["backends", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_list() -> None:
    assert "virtio blk  block" in backends()
    assert {entry["command"] for entry in json.loads(backends("--json"))} == {
        "virtio blk",
        "virtio net",
        "virtio rng",
    }


def test_descriptions_as_qemu_and_libvirt_read_them(tmp_path: Path) -> None:
    assert backends("--install", "--dir", str(tmp_path / "new")) == ""
    files = sorted((tmp_path / "new").iterdir())
    assert [file.name for file in files] == ["50-virtio-blk.json", "50-virtio-net.json", "50-virtio-rng.json"]
    for file in files:
        described = json.loads(file.read_text())
        assert set(described) == {"description", "type", "binary", "tags"}
        assert os.path.isabs(described["binary"])
        answer = subprocess.run(
            [described["binary"], "--print-capabilities"], capture_output=True, check=True, timeout=60
        )
        assert json.loads(answer.stdout)["type"] == described["type"]


def test_where_a_user_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    backends("--install")
    assert (tmp_path / "qemu" / "vhost-user" / "50-virtio-blk.json").exists()


def test_where_root_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "/etc/qemu/vhost-user/50-virtio-blk.json" in backends()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" backends --install --dir "$1"', _virtio(), str(tmp_path / "file" / "x")],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 4
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr


def _virtio() -> str:
    return str(Path(json.loads(backends("--json"))[0]["description"]["binary"]).parent / "virtio")


def test_every_program_is_a_command() -> None:
    for command in PROGRAMS:
        assert root.get_command(None, command) is not None  # type: ignore[arg-type]


@pytest.mark.parametrize("device", [DISK, OWN])
@pytest.mark.parametrize("name", FRONTENDS)
def test_lines_name_the_socket(name: str, device: Attachable) -> None:
    text = lines_for(name, device)
    assert device.socket in text.replace(",,", ",")
    if name == "libvirt":
        ElementTree.fromstring(f"<domain xmlns:qemu='q'>{text}</domain>")
    else:
        assert shlex.split(text)


def test_lines_for_qemu() -> None:
    words = shlex.split(lines_for("qemu", DISK))
    assert words[-4:] == [
        *("-chardev", "socket,id=c0,path=/run/d,,1.sock"),
        *("-device", "vhost-user-blk-pci,chardev=c0,num-queues=4"),
    ]
    assert "share=on" in lines_for("qemu", DISK)
    own = shlex.split(lines_for("qemu", OWN))[-1]
    assert own == ("vhost-user-test-device-pci,chardev=c0,virtio-id=42,num_vqs=2,vq_size=64,config_size=8")


def test_lines_for_the_others() -> None:
    assert (
        shlex.split(lines_for("cloud-hypervisor", DISK))[-1]
        == "vhost_user=on,socket=/run/d,1.sock,num_queues=4"
    )
    assert shlex.split(lines_for("cloud-hypervisor", OWN))[-1] == (
        'socket="/run/own.sock",device_type=42,queue_sizes=[64,64]'
    )
    assert lines_for("crosvm", DISK) == "--vhost-user block,socket=/run/d,1.sock"
    assert lines_for("uml", OWN) == "virtio_uml.device=/run/own.sock:42"
