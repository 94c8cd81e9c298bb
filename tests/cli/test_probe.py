"""``virtio probe`` on real sockets, with and without a device behind."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from virtio.cli.app import root, run
from virtio.devices.blk import Blk as BlkDevice
from virtio.serve import serving


def probe(*arguments: str) -> str:
    result = CliRunner().invoke(root, ["probe", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_a_disk(tmp_path: Path) -> None:
    path = str(tmp_path / "disk.sock")
    with serving(BlkDevice("mem:8M", num_queues=2), path):
        text = probe(path)
        data = json.loads(probe(path, "--json"))
        as_net = json.loads(probe(path, "--json", "--device", "net"))
    assert "blk (device id 2)" in text
    assert "9   FLUSH" in text
    assert "topology.min_io_size" in text
    assert "CONFIGURE_MEM_SLOTS" in text
    assert (data["device"], data["queues"], data["config"]["capacity"]) == ("blk", 2, 8 << 11)
    assert {"bit": 32, "name": "VERSION_1"}.items() <= data["features"][-2].items()
    assert as_net["device"] == "net"


def test_nobody_listens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["probe", str(tmp_path / "nothing")]) == 4
    assert "fix:" in capsys.readouterr().err


def test_a_device_type_that_is_none(tmp_path: Path) -> None:
    assert run(["probe", str(tmp_path / "nothing"), "--device", "toaster"]) == 2


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("silent", "did not answer"),
        ("rude", "closed the connection"),
        ("chatty", "does not speak"),
    ],
)
def test_a_socket_that_is_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], behaviour: str, words: str
) -> None:
    path = str(tmp_path / "other.sock")
    done = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def other() -> None:
            with listener.accept()[0] as connection:
                if behaviour == "chatty":
                    connection.sendall(b"220 mail.example.org ESMTP, pleased to meet you\r\n")
                if behaviour != "rude":
                    done.wait(10)

        thread = threading.Thread(target=other)
        thread.start()
        assert run(["probe", path, "--timeout", "0.2"]) == 3
        done.set()
        thread.join(5)
    assert words in capsys.readouterr().err
