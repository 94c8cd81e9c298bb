"""Kernels and sandboxes that refuse io_uring, at the start or under way: seccomp filters in a process apart."""

from __future__ import annotations

import errno
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from virtio.devices.blk.aio import io_uring_problem

SECCOMP = {"x86_64": 317, "aarch64": 277}.get(platform.machine())
SETUP, ENTER = 425, 426

pytestmark = [
    pytest.mark.skipif(bool(io_uring_problem()), reason=io_uring_problem()),
    pytest.mark.skipif(SECCOMP is None, reason="the number of the system call seccomp is not known here"),
]

PRELUDE = f"""
import ctypes, errno, logging, os, random, select, socket, struct, sys, threading, time
from functools import cached_property
from virtio.devices.blk import Blk, device as blk_device
from virtio.devices.blk.aio import io_uring_problem
from virtio.errors import VirtioError
from virtio.storage import Storage
from virtio.storage.file_backend import DirectBackend
from virtio.testing import attach

def refuse(call, error):
    \"\"\"From now on the system call fails so, in all threads.\"\"\"
    def step(code, yes, no, value):
        return struct.pack("=HBBI", code, yes, no, value)
    steps = step(0x20, 0, 0, 0) + step(0x15, 0, 1, call) + step(6, 0, 0, 0x50000 | error) + step(6, 0, 0, 0x7fff0000)
    program = ctypes.create_string_buffer(steps, len(steps))
    head = struct.pack("@HP", 4, ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    if libc.syscall({SECCOMP}, 1, 1, ctypes.create_string_buffer(head, len(head))) != 0:
        print("no seccomp:", os.strerror(ctypes.get_errno()))
        sys.exit(77)
"""


def run(script: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
