"""A file that shrinks under its mapping must not end the process."""

import os
import signal
import subprocess
import sys

from virtio.memory import GuestMemory, Mapping

PRELUDE = """
import os, signal
from virtio.memory import GuestMemory, Mapping
fd = os.memfd_create("guest")
os.ftruncate(fd, 0x4000)
os.pwrite(fd, b"kept", 0)
def memory(writable=True):
    return GuestMemory([Mapping.from_fd(fd, 0x4000, writable=writable)])
"""


def run(script):
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + script], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_lost_page_reads_as_zeros_and_is_told(memfd):
    fd = memfd(0x4000)
    os.pwrite(fd, b"x" * 0x4000, 0)
    first = GuestMemory([Mapping.from_fd(fd, 0x4000)])
    other = GuestMemory([Mapping.from_fd(memfd(0x1000), 0x1000)])
    part = GuestMemory([first.regions[0].part(0, 0x1000, guest_address=0)])
    os.ftruncate(fd, 0x2000)
    assert not first.faulted
    assert first.read(0x1000, 0x1000) == b"x" * 0x1000
    assert not first.faulted
    assert first.read(0x1FFF, 0x1001) == b"x" + bytes(0x1000)
    assert first.faulted
    assert part.faulted  # a part shares its whole's fate
    assert not other.faulted
    first.write(0x3000, b"written to nowhere")
    assert first.add(other.regions[0].part(0, 16, guest_address=0x9000)).faulted


def test_many_threads_may_meet_lost_pages():
    result = run(
        """
import threading
whole = memory()
os.ftruncate(fd, 0x1000)
errors = []
def touch():
    for page in (3, 1, 2):
        if whole.read(page * 0x1000, 0x1000) != bytes(0x1000):
            errors.append(page)
threads = [threading.Thread(target=touch) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(whole.faulted, errors, whole.read(0, 4))
"""
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "True [] b'kept'\n", "")


def test_another_fault_still_ends_the_process():
    result = run(
        """
import mmap
guarded = memory()
stray = mmap.mmap(fd, 0x4000)
os.ftruncate(fd, 0)
print(guarded.read(0, 4) == bytes(4), flush=True)
stray[0]
"""
    )
    assert result.returncode == -signal.SIGBUS
    assert result.stdout == "True\n"


def test_a_released_mapping_is_guarded_no_more():
    result = run(
        """
import mmap
for _ in range(3):
    gone = memory()
    del gone
stray = [mmap.mmap(fd, 0x4000) for _ in range(3)]
os.ftruncate(fd, 0)
stray[1][0]
"""
    )
    assert result.returncode == -signal.SIGBUS


def test_a_signal_that_was_sent_is_not_swallowed():
    result = run("guarded = memory()\nos.kill(os.getpid(), signal.SIGBUS)\nprint('alive')")
    assert result.returncode == -signal.SIGBUS
    assert result.stdout == ""


def test_the_earlier_handler_gets_what_is_not_ours():
    result = run(
        """
import faulthandler, mmap
faulthandler.enable()
guarded = memory()
faulthandler.disable(); faulthandler.enable()  # now it is before ours
again = memory()
stray = mmap.mmap(fd, 0x4000)
os.ftruncate(fd, 0)
print(guarded.read(0, 1), again.read(0, 1), flush=True)
stray[0]
"""
    )
    assert result.returncode == -signal.SIGBUS
    assert result.stdout == "b'\\x00' b'\\x00'\n"
    assert "Fatal Python error: Bus error" in result.stderr


def test_a_log_that_vanishes_is_told(memfd, region):
    log = memfd(0x1000)
    memory = GuestMemory([region(0x1000)]).with_log(log, 0x1000)
    os.ftruncate(log, 0)
    memory.write(0, b"x")
    assert memory.faulted
    assert not memory.with_log(None).faulted


def test_two_handlers_that_call_each_other_end():
    """A handler installed later that calls ours in turn must not go round for ever."""
    result = run(
        """
import ctypes, mmap, threading
guarded = memory()
libc = ctypes.CDLL(None)
class Action(ctypes.Structure):
    _fields_ = [("handler", ctypes.c_void_p), ("mask", ctypes.c_ulong * 16), ("flags", ctypes.c_int),
                ("restorer", ctypes.c_void_p)]
ours = Action()
libc.sigaction(signal.SIGBUS, None, ctypes.byref(ours))
HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
call_ours = HANDLER(ours.handler)
keep = HANDLER(lambda number, info, context: call_ours(number, info, context))
theirs = Action(ctypes.cast(keep, ctypes.c_void_p).value, ours.mask, ours.flags, None)
libc.sigaction(signal.SIGBUS, ctypes.byref(theirs), None)
again = memory()
stray = mmap.mmap(fd, 0x4000)
os.ftruncate(fd, 0)
ctypes.string_at(ctypes.addressof(ctypes.c_char.from_buffer(stray)), 1)
"""
    )
    assert result.returncode == -signal.SIGBUS
