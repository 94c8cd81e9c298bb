"""How requests that would wait are done: by io_uring or by threads."""

from __future__ import annotations

import errno
import logging
import os
from importlib.util import find_spec

from virtio.devices.blk.executor import Executor, Ring
from virtio.errors import HostError
from virtio.storage.backend import NullBackend

__all__ = ["AIO", "io_uring_problem", "make_ring", "require"]

logger = logging.getLogger("virtio.blk")

AIO = ("auto", "io_uring", "threads")
"""io_uring where it can be had, io_uring or an error, the pool of threads."""


def io_uring_problem() -> str:
    """Why io_uring cannot be used here; empty if it can."""
    try:
        _ring(Executor(NullBackend()), 1)
    except ModuleNotFoundError:
        return "this build of pyvirtio has none: liburing was not found"
    except ImportError as error:
        return str(error)  # liburing was there once
    except OSError as error:
        return _refusal(error)
    return ""


def require(aio: str) -> None:
    """HostError if ``aio`` insists on an io_uring that cannot be had."""
    if aio == "io_uring" and (problem := io_uring_problem()):
        raise HostError(f"io_uring cannot be used: {problem}", fix="leave it to threads (aio=threads)")


def make_ring(aio: str, executor: Executor, size: int) -> Ring | None:
    """The ring of one queue of ``size``; None for threads, and where there is none to be had just now."""
    if aio == "threads":
        return None
    try:
        return _ring(executor, size)
    except (ImportError, OSError) as error:
        if aio == "io_uring":
            logger.warning("threads serve a queue, as io_uring cannot be used: %s", error)
        return None


def _ring(executor: Executor, size: int) -> Ring:
    found = find_spec("virtio.devices.blk.uring")
    if found is None or (found.origin or "").endswith(".py"):
        raise ModuleNotFoundError("the ring was not built")  # its source alone is of no use
    from virtio.devices.blk.uring import UringRing

    return UringRing(executor, size)


def _refusal(error: OSError) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return "the kernel refuses it to this process (kernel.io_uring_disabled, or seccomp)"
    if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
        return f"Linux {os.uname().release} has none, or one that is too old"
    return error.strerror or str(error)
