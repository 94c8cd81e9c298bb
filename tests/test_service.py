"""`virtio.serve` as a program: start-up, readiness, signals."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from virtio.errors import HostError
from virtio.service import serve, serving

SCRIPT = """
import sys
from virtio.service import serve
serve(object(), sys.argv[1], on_listening=lambda server: print("listening", flush=True))
print("ended", flush=True)
"""


def start(path: Path, **env: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "s"
    with start(path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        assert path.is_socket()
        process.send_signal(number)
        assert process.stdout.readline() == "ended\n"
        assert process.wait(10) == 0
    assert not path.exists()


def test_the_service_manager_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        with start(tmp_path / "s", NOTIFY_SOCKET=str(tmp_path / "notify")) as process:
            assert manager.recv(100) == b"READY=1"
            process.terminate()
            assert manager.recv(100) == b"STOPPING=1"


def test_a_socket_left_by_a_killed_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with start(path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    assert path.exists()
    with serving(object(), path):  # type: ignore[arg-type]
        assert path.is_socket()
    assert not path.exists()


def test_an_address_that_cannot_be_served(tmp_path: Path) -> None:
    with pytest.raises(HostError):
        serve(object(), tmp_path / "no" / "s")  # type: ignore[arg-type]


def test_nothing_slow_is_imported() -> None:
    """What makes a Python program slow to start is not on the way to a listening socket."""
    script = "import sys, virtio.service, virtio.vhost_user.server; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    slow = {"asyncio", "logging", "click", "subprocess", "hypothesis", "concurrent.futures", "inspect"}
    assert sorted(slow & set(done.stdout.split())) == []
