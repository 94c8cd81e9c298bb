"""Socket activation and readiness."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from virtio.vhost_user.systemd import listen_fds, notify

BECOME = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2]])
"""


def test_sockets_for_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert listen_fds() == []
    assert "LISTEN_FDS" not in os.environ


def test_sockets_for_us() -> None:
    """The pid is known only to the new process itself, as with a real service manager."""
    script = (
        "import os; os.environ['LISTEN_PID'] = str(os.getpid());"
        "from virtio.vhost_user.systemd import listen_fds;"
        "fds = listen_fds(); print(fds, os.get_inheritable(fds[0]), 'LISTEN_PID' in os.environ)"
    )
    left, right = socket.socketpair()
    with left, right:
        done = subprocess.run(
            [sys.executable, "-c", BECOME, str(left.fileno()), script],
            env={**os.environ, "LISTEN_FDS": "1"},
            pass_fds=[left.fileno()],
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.strip() == "[3] False False"


@pytest.mark.parametrize("abstract", [False, True])
def test_notify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"virtio-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if abstract else name)
        assert notify()
        assert manager.recv(100) == b"READY=1"
    assert not notify()


def test_nobody_to_notify(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify()
