import os
import signal
import subprocess
import sys
import threading

import pytest

from virtio.cli.signals import stopping

SERVICE = """
import sys, threading
from virtio.cli.signals import stopping
event = threading.Event()
with stopping({stop}) as asked:
    print("ready", flush=True)
    while not event.wait(0.01):
        if asked.asked:
            print("asked", flush=True)
print("clean", flush=True)
sys.exit(asked.status)
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_first_signal_stops_cleanly(number, status):
    code = SERVICE.format(stop="event.set")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(number)
        assert child.communicate(timeout=20)[0].endswith("clean\n")
    assert child.returncode == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_ends_what_does_not_stop(number):
    code = SERVICE.format(stop="lambda: None")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(number)
        assert child.stdout.readline() == "asked\n"
        child.send_signal(number)
        assert "clean" not in child.communicate(timeout=20)[0]
    assert child.returncode == -number


def test_the_earlier_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    stopped = threading.Event()
    with stopping(stopped.set) as asked:
        assert not asked.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopped.wait(5)
        assert asked.asked
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
