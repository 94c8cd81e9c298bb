"""Who does the requests that would wait: io_uring or threads."""

from __future__ import annotations

import errno
import logging
import os
from importlib.util import find_spec

from virtio.devices.blk.deferred import Deferred
from virtio.devices.blk.executor import Executor
from virtio.errors import IoUringError, UsageError
from virtio.storage import Storage
from virtio.storage.backend import NullBackend

__all__ = ["AIO", "choose", "io_uring_problem", "make_deferred"]

logger = logging.getLogger("virtio.blk")

AIO = ("auto", "io_uring", "threads")
"""io_uring where it can be had, io_uring or an error, the pool of threads."""


def choose(aio: str, storage: Storage) -> str:
    """What ``aio`` comes to with this storage.

    IoUringError if it insists on an io_uring that cannot be had, UsageError if on one that is of no use.
    """
    waits_in_kernel = storage.fd is not None and not storage.backend.immediate
    if aio != "io_uring":
        return aio if waits_in_kernel else "threads"
    if not waits_in_kernel:
        raise UsageError(
            f"{storage.name} is neither a file nor a block device, so io_uring is of no use to it",
            fix="leave the choice to pyvirtio (aio=auto)",
        )
    if problem := io_uring_problem():
        raise IoUringError(f"io_uring cannot be used: {problem}")
    return aio


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


def make_deferred(aio: str, executor: Executor, size: int) -> Deferred:
    """For one queue of ``size``. Threads, too, where no ring is to be had just now."""
    if aio != "threads":
        try:
            return _ring(executor, size)
        except (ImportError, OSError) as error:
            if aio == "io_uring":
                logger.warning("threads serve a queue, as io_uring cannot be used: %s", error)
    return Deferred(executor)


def _ring(executor: Executor, size: int) -> Deferred:
    found = find_spec("virtio.devices.blk.uring")
    if found is None or (found.origin or "").endswith(".py"):
        raise ModuleNotFoundError("the ring was not built")  # its source alone is of no use
    from virtio.devices.blk.uring import UringDeferred

    return UringDeferred(executor, size)


def _refusal(error: OSError) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return "the kernel refuses it to this process (kernel.io_uring_disabled, or seccomp)"
    if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
        return f"Linux {os.uname().release} has none, or one that is too old"
    if error.errno == errno.ENOMEM:
        return "there is no memory for it, or this process may not lock as much as it takes (ulimit -l)"
    return error.strerror or str(error)
