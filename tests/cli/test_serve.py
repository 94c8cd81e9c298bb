"""``virtio serve``: a device out of the user's file."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from virtio.drivers import Entropy
from virtio.errors import VirtioError

Start = Callable[..., Any]

DEVICE = """
import virtio
from neighbour import ANSWER

class Answer(virtio.Device):
    device_id = 4
    queues = (virtio.Queue("requests", size=64),)

    def requests(self, request):
        request.write(ANSWER)

class Broken(virtio.Device):
    device_id = 4
    queues = (virtio.Queue("requests", size=64),)

    def __init__(self):
        raise RuntimeError("no such luck")

class Failing(Answer):
    def requests(self, request):
        raise KeyError("handled badly")

class NoHandler(virtio.Device):
    device_id = 4
    queues = (virtio.Queue("requests", size=64),)

instance = Answer()
number = 7
"""


@pytest.fixture
def user(tmp_path: Path) -> Path:
    (tmp_path / "neighbour.py").write_text("ANSWER = b'one'\n")
    path = tmp_path / "user.py"
    path.write_text(DEVICE)
    return path


@pytest.fixture
def at(tmp_path: Path) -> str:
    return str(tmp_path / "s")


def refused(*arguments: object, **options: Any) -> tuple[int, str]:
    command = [sys.executable, "-m", "virtio.cli", "serve", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
    assert done.stdout == ""
    return done.returncode, done.stderr


def answer(at: str) -> bytes:
    with Entropy.connect(at) as source:
        return source.read(3)


def test_a_class_and_an_instance_of_a_file(start: Start, user: Path, at: str) -> None:
    for name in ("Answer", "instance"):
        service = start("serve", f"{user}:{name}", at, said="others:")
        assert f"{name} of {user}, at {at}" in service.said
        assert answer(at) == b"one"
        assert service.stop() == 0


def test_a_class_of_a_module(start: Start, user: Path, at: str) -> None:
    start("serve", "user:Answer", at, said="others:", cwd=user.parent)
    assert answer(at) == b"one"


def test_a_front_end_that_listens(start: Start, user: Path, at: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(at)
        listener.listen()
        listener.settimeout(20)
        start("serve", f"{user}:Answer", f"connect:{at}")
        connection = listener.accept()[0]
        connection.settimeout(None)
        with Entropy.connect(connection) as source:
            assert source.read(3) == b"one"


def test_lines_for_it(user: Path, at: str) -> None:
    command = [sys.executable, "-m", "virtio.cli", "serve", f"{user}:Answer", at, "--for", "uml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"virtio_uml.device={at}:4\n", "")


def test_a_file_that_changes(start: Start, user: Path, at: str) -> None:
    service = start("serve", f"{user}:Answer", at, "--reload", said="others:")
    with Entropy.connect(at) as source:
        assert source.read(3) == b"one"
        user.write_text(DEVICE.replace("write(ANSWER)", "write(b'two')"))
        service.wait_said(f"{user} changed: Answer is new")
    assert answer(at) == b"two"
    user.write_text("this is no Python")
    service.wait_said("the device from before goes on")
    assert "E-DEVICE-CODE" in service.said
    assert "SyntaxError" in service.said
    assert answer(at) == b"two"
    user.write_text(DEVICE)
    deadline = time.monotonic() + 10
    while answer(at) != b"one" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert answer(at) == b"one"
    assert service.stop() == 0


def test_a_handler_that_raises(start: Start, user: Path, at: str) -> None:
    """The user's own traceback, and the service goes on."""
    service = start("serve", f"{user}:Failing", at, said="others:")
    with pytest.raises(VirtioError):
        answer(at)
    said = service.wait_said("KeyError: 'handled badly'")
    assert "user.py" in said
    assert service.process.poll() is None


@pytest.mark.parametrize(
    ("target", "status", "words"),
    [
        ("none.py:Answer", 2, "none.py does not exist [E-USAGE]"),
        (".:Answer", 2, "neither a file of Python nor"),
        ("./:Answer", 2, ". is not a file"),
        ("user.py", 2, "'user.py' names no device [E-USAGE]\n  fix: write FILE.py:Class"),
        ("user.py:", 2, "names no device"),
        ("user.py:Upper", 2, "has no Upper [E-USAGE]\n  fix: it has: Answer, Broken, Failing, NoHandler"),
        ("user.py:number", 2, "number in user.py is a int, not a virtio.Device"),
        ("neighbour.py:ANSWER", 2, "derive a class from virtio.Device there"),
        ("nosuch.module:Answer", 2, "there is no module nosuch [E-USAGE]"),
        ("user.py:Broken", 1, "RuntimeError: no such luck"),
        ("raising.py:Answer", 1, "ZeroDivisionError"),
        ("raising:Answer", 1, "ZeroDivisionError"),
        ("lacking:Answer", 1, "No module named 'not_installed'"),
        ("leaving.py:Answer", 1, "SystemExit"),
    ],
)
def test_what_cannot_be_served(user: Path, target: str, status: int, words: str) -> None:
    (user.parent / "raising.py").write_text("def fail():\n    return 1 / 0\nfail()\n")
    (user.parent / "lacking.py").write_text("import not_installed\n")
    (user.parent / "leaving.py").write_text("import sys\nsys.exit(5)\n")
    found, said = refused(target, "s", cwd=user.parent)
    assert found == status
    assert words in said
    assert ("Traceback" in said) == (status == 1)
    if status == 1:
        assert "[E-DEVICE-CODE]" in said
        assert "device_loader" not in said
        assert "importlib" not in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["user.py:Answer", "tcp:host"], "there is no transport 'tcp'"),
        (["user.py:Answer", "a", "-s", "b"], "two addresses"),
        (["user.py:Answer", "a", "--reload", "--one-off"], "--reload is for serving on"),
        (["user.py:NoHandler", "a"], "NoHandler has no method requests(request) for its queue"),
        ([], "Missing argument"),
    ],
)
def test_usage(user: Path, arguments: list[str], words: str) -> None:
    status, said = refused(*arguments, cwd=user.parent)
    assert (status, words in said) == (2, True), said
    assert not os.path.exists(user.parent / "a")


def test_the_example_of_the_documentation(start: Start, tmp_path: Path, at: str) -> None:
    """Twelve lines, any device id; QEMU is told all that it must know."""
    path = tmp_path / "upper.py"
    path.write_text(
        textwrap.dedent(
            """
            import virtio

            class Upper(virtio.Device):
                device_id = 42
                queues = (virtio.Queue("requests", size=256),)

                def requests(self, request):
                    request.write(bytes(request.readable).upper())
            """
        )
    )
    service = start("serve", f"{path}:Upper", "--socket-path", at, said="others:")
    assert "virtio-id=42,num_vqs=1,vq_size=256,config_size=0" in service.said
