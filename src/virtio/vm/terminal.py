"""The user's own terminal, connected to a guest."""

from __future__ import annotations

import os
import selectors
import shutil
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from virtio.vm.process import Process

__all__ = ["ESCAPE", "bridge", "is_interactive", "raw", "show", "size"]

CHUNK = 1 << 16
ESCAPE = b"\x1d"
"""Control-] leaves a guest's console, as it leaves telnet and ``virsh console``."""


def is_interactive() -> bool:
    """Whether a person sits at both ends of us."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def size() -> tuple[int, int]:
    """Rows and columns."""
    found = shutil.get_terminal_size()
    return found.lines, found.columns


def show(data: bytes) -> None:
    """Write ``data`` to standard output at once."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@contextmanager
def raw(fd: int) -> Iterator[None]:
    """Every key goes to the guest, ^C too, until the block ends; nothing to do for what is no terminal."""
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def bridge(console: socket.socket, keyboard: int, process: Process) -> None:
    """Join ``console`` with the terminal until the guest ends or ESCAPE is typed."""
    with selectors.DefaultSelector() as selector:
        selector.register(console, selectors.EVENT_READ)
        selector.register(keyboard, selectors.EVENT_READ)
        selector.register(process, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if console in ready:
                output = console.recv(CHUNK)
                show(output)
                if not output:
                    return
            elif process in ready:
                return
            if keyboard in ready:
                typed = os.read(keyboard, CHUNK)
                if ESCAPE in typed:
                    return
                if not typed:
                    selector.unregister(keyboard)
                console.sendall(typed)
