"""Network namespaces: doing something inside one."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from virtio.errors import NetworkError, NetworkMissingError, NetworkPermissionError

__all__ = ["inside", "path_of"]

CLONE_NEWNET = 0x40000000
NAMED = Path("/run/netns")
"""Where ``ip netns`` keeps the namespaces that have names."""

Result = TypeVar("Result")


def path_of(namespace: str) -> Path:
    """The file of a namespace given by its name or its path. NetworkMissingError if there is none."""
    path = Path(namespace) if "/" in namespace else NAMED / namespace
    if not path.exists():
        raise NetworkMissingError(
            f"there is no network namespace {namespace}", fix=f"ip netns add {path.name}, or give a path"
        )
    return path


def inside(namespace: str | None, function: Callable[[], Result]) -> Result:
    """Call ``function`` in a network namespace (None: this one); what it returns or raises.

    It runs on a thread of its own, which ends with it: a thread that has changed its namespace is fit for
    nothing else. Sockets and taps stay in the namespace where they were opened.
    """
    if namespace is None:
        return function()
    fd = os.open(path_of(namespace), os.O_RDONLY | os.O_CLOEXEC)
    try:

        def run() -> Result:
            _enter(fd, namespace)
            return function()

        return _on_a_thread(run)
    finally:
        os.close(fd)


def _enter(fd: int, namespace: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        kind = NetworkPermissionError if isinstance(OSError(number, ""), PermissionError) else NetworkError
        raise kind(f"cannot enter the network namespace {namespace}: {os.strerror(number)}")


def _on_a_thread(function: Callable[[], Result]) -> Result:
    results: list[Result] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:  # to be raised where the caller is
            failures.append(error)

    thread = threading.Thread(target=run, name="virtio-netns")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
