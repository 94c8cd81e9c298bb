from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from virtio.errors import GuestTimeoutError
from virtio.vm.process import Plugs, Process

LAUNCHER = """
import sys, time
from virtio.vm.process import Process
process = Process()
process.start(["/bin/sh", "-c", "sleep 100 & exec sleep 100"], {}, [], isolate=sys.argv[1] == "isolate")
print(process._keeper.pid, process.pid, process.directory, flush=True)
time.sleep(100)
"""


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def group_members(leader: int) -> list[int]:
    """Living processes of the process group; zombies that wait for somebody else's reaping are dead."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == leader and fields[0] != "Z":
            found.append(int(entry.name))
    return found


@pytest.fixture
def process() -> Iterator[Process]:
    found = Process()
    yield found
    found.close()


def test_output_goes_to_the_log_and_sockets_have_their_numbers(process: Process) -> None:
    plugs = Plugs()
    ours, number = plugs.plug()
    second, _ = plugs.plug()
    command = f"echo to the log; echo $WORD; read line <&{number}; echo got $line >&{number}; exit 3"
    process.start(["/bin/bash", "-c", command], {"WORD": "from outside"}, plugs.guest_ends, isolate=False)
    plugs.close()
    with ours, second:
        ours.sendall(b"hello\n")
        assert ours.recv(100) == b"got hello\n"
    assert process.wait(20) == 3
    assert process.poll() == 3
    assert (process.directory / "console.log").read_text() == "to the log\nfrom outside\n"


def test_closing_removes_everything(process: Process) -> None:
    process.start(["/bin/sleep", "100"], {}, [], isolate=False)
    (process.directory / "deep/er").mkdir(parents=True)
    (process.directory / "deep/er/file").touch()
    (process.directory / "link").symlink_to("/etc")
    assert process.poll() is None
    process.close()
    assert not process.directory.exists()
    assert Path("/etc/passwd").exists()
    pid = process.pid
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_program_that_is_not_there(process: Process) -> None:
    process.start(["/no/such/program"], {}, [], isolate=False)
    assert process.wait(20) == 127
    assert "cannot start /no/such/program" in (process.directory / "console.log").read_text()


def test_waiting_has_an_end(process: Process) -> None:
    process.start(["/bin/sleep", "100"], {}, [], isolate=False)
    with pytest.raises(GuestTimeoutError, match=r"did not end within 0\.05 s"):
        process.wait(0.05)


def test_a_killed_guest_is_noticed_at_once(process: Process) -> None:
    process.start(["/bin/sleep", "100"], {}, [], isolate=False)
    assert process.pid is not None
    started = time.monotonic()
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(20) == -signal.SIGKILL
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("isolate", [True, False])
def test_a_killed_keeper_takes_the_guest_along(process: Process, isolate: bool) -> None:
    process.start(["/bin/sh", "-c", "sleep 100 & exec sleep 100"], {}, [], isolate=isolate)
    pid = process.pid
    assert pid is not None
    eventually(lambda: len(group_members(pid)) >= 2)
    process._keeper.kill()
    assert process.wait(20) == -signal.SIGKILL
    eventually(lambda: group_members(pid) == [])
    assert not process.directory.exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("isolate", ["isolate", "group"])
def test_a_killed_launcher_takes_all_along(isolate: str, how: signal.Signals) -> None:
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, isolate], stdout=subprocess.PIPE, text=True)
    with launcher:
        assert launcher.stdout is not None
        keeper, guest, directory = launcher.stdout.readline().split()
        eventually(lambda: len(group_members(int(guest))) >= 2)
        launcher.send_signal(how)
    eventually(lambda: group_members(int(guest)) == [])
    eventually(lambda: not Path(directory).exists())
    eventually(lambda: group_members(int(keeper)) == [])


def test_a_terminated_keeper_cleans_up(process: Process) -> None:
    process.start(["/bin/sleep", "100"], {}, [], isolate=False)
    process._keeper.terminate()
    assert process.wait(20) == -signal.SIGKILL
    assert not process.directory.exists()


def test_a_launcher_that_never_starts_a_guest() -> None:
    process = Process()
    assert process.directory.is_dir()
    process.close()
    assert not process.directory.exists()
