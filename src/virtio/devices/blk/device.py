"""The block device: what the driver sees of a disk."""

from __future__ import annotations

import logging
import os

from virtio.device import RING_FEATURES, Device, Queue
from virtio.device.worker import QueueWorker
from virtio.devices.blk.aio import AIO, choose, make_deferred
from virtio.devices.blk.config import initial_config
from virtio.devices.blk.disk import Disk
from virtio.devices.blk.engine import BlkEngine
from virtio.devices.blk.executor import Executor
from virtio.errors import UsageError, VirtioError
from virtio.spec import blk as spec
from virtio.spec import features as feature_bits
from virtio.storage import Storage, open_storage
from virtio.virtqueue.queue import DeviceQueue

__all__ = ["Blk"]

logger = logging.getLogger("virtio.blk")

CACHES = ("writeback", "writethrough", "none")
CLOSE_SECONDS = 5.0  # for requests that outlived their queue
DRAIN_SECONDS = 60.0  # a flush of much data to a slow disk takes its time


class Blk(Device):
    """A disk for the guest, made of ``storage``: a URL, a path, or a Storage that stays the caller's.

    ``read_only`` refuses writes. ``num_queues`` request queues of ``queue_size`` descriptors each are served
    in parallel. ``logical_block_size`` is 512 or 4096, by default what the storage has.

    ``cache`` is what the guest finds. "writeback": a write is acknowledged once the host has it, and durable
    after a FLUSH. "writethrough": durable when acknowledged. "none": as writeback, past the host's page cache
    (O_DIRECT; a storage that is open already must have been opened so). A driver that negotiates CONFIG_WCE
    may switch between the first two; one that cannot flush gets write-through in any case
    (virtio 1.4, 5.2.6.2).

    ``serial`` is the answer to GET_ID, 20 bytes of ASCII at most. ``threads`` bounds how many requests wait
    for the storage at the same time, each on its thread.

    ``aio`` says what does that which would make a queue wait, as cold reads, flushes and O_DIRECT: "threads";
    "io_uring", which is for files and block devices alone, and leaves some to threads; "auto": io_uring where
    it can be had.

    Raises UsageError for what cannot be, IoUringError for io_uring that cannot be had, StorageError for a
    storage that cannot be used.
    """

    device_id = spec.DEVICE.id
    # In order, one cold read or flush would hold up all that is finished after it.
    ring_features = RING_FEATURES & ~feature_bits.mask(feature_bits.IN_ORDER)

    def __init__(
        self,
        storage: str | os.PathLike[str] | Storage,
        *,
        read_only: bool = False,
        num_queues: int = 1,
        queue_size: int = 256,
        logical_block_size: int | None = None,
        cache: str = "writeback",
        serial: str = "",
        threads: int = 16,
        aio: str = "auto",
    ) -> None:
        _check(num_queues, queue_size, logical_block_size, cache, serial, aio)
        self._owns_storage = not isinstance(storage, Storage)
        if not isinstance(storage, Storage):
            storage = open_storage(storage, read_only=read_only, cache=cache)
        self.storage = storage
        try:
            self._aio = choose(aio, storage)
        except VirtioError:
            if self._owns_storage:
                storage.close()
            raise
        self.read_only = read_only or storage.read_only
        block = logical_block_size or max(storage.logical_block_size, spec.SECTOR_SIZE)
        self.queues = (Queue("requests", size=queue_size, count=num_queues, drain=DRAIN_SECONDS),)
        self.features = self._offered(num_queues)
        self._cache_after_reset = cache != "writethrough"
        self.config = initial_config(
            storage,
            block=block,
            num_queues=num_queues,
            queue_size=queue_size,
            writeback=self._cache_after_reset,
            read_only=self.read_only,
        )
        self._accepted = 0
        self._disk = Disk(
            storage.backend,
            self.config.capacity * spec.SECTOR_SIZE,
            name=storage.name,
            read_only=self.read_only,
            writeback=self._cache_after_reset,
            identity=serial.encode("ascii"),
        )
        self._executor = Executor(storage.backend, threads)
        storage.on_resize(self._resized)

    def _offered(self, num_queues: int) -> int:
        offered = feature_bits.mask(
            spec.F_SEG_MAX, spec.F_BLK_SIZE, spec.F_TOPOLOGY, spec.F_FLUSH, spec.F_CONFIG_WCE, spec.F_SIZE_MAX
        )
        if num_queues > 1:
            offered |= feature_bits.mask(spec.F_MQ)
        if self.read_only:
            return offered | feature_bits.mask(spec.F_RO)
        if self.storage.can_discard:
            offered |= feature_bits.mask(spec.F_DISCARD)
        return offered | feature_bits.mask(spec.F_WRITE_ZEROES)

    def check_features(self, features: int) -> None:
        """Any subset will do. The cache mode that it implies is what the driver reads from now on."""
        if features & feature_bits.mask(feature_bits.VERSION_1):
            self._choose_cache(features)

    def on_ready(self, features: int) -> None:
        """A legacy driver's cache mode is settled only now (virtio 1.4, 5.2.5.3)."""
        self._accepted = features
        if not features & feature_bits.mask(feature_bits.VERSION_1, spec.F_CONFIG_WCE):
            self._choose_cache(features)

    def _choose_cache(self, features: int) -> None:
        """Virtio 1.4, 5.2.5.2: a driver that cannot flush starts with a write-through cache."""
        can_flush = bool(features & feature_bits.mask(spec.F_FLUSH))
        if not can_flush:
            self._set_writeback(False)
        elif not features & feature_bits.mask(spec.F_CONFIG_WCE):
            self._set_writeback(self._cache_after_reset)

    def on_reset(self) -> None:
        """Back to the cache mode that was asked for."""
        self._set_writeback(self._cache_after_reset)

    def on_config_write(self, changed: tuple[str, ...]) -> None:
        """The driver switched its cache: the only field it may write."""
        if "writeback" in changed:
            self._set_writeback(bool(self.config.writeback))

    def _set_writeback(self, writeback: bool) -> None:
        self.config.assign(writeback=int(writeback))
        self._disk.writeback = writeback

    def make_worker(self, index: int, queue: DeviceQueue) -> QueueWorker:
        """The engine of one request queue."""
        accepted = self._accepted
        flushable = feature_bits.mask(spec.F_CONFIG_WCE, spec.F_FLUSH)
        return BlkEngine(
            queue,
            self._disk,
            self._executor,
            always_durable=not accepted & flushable,
            discard=bool(accepted & feature_bits.mask(spec.F_DISCARD)),
            write_zeroes=bool(accepted & feature_bits.mask(spec.F_WRITE_ZEROES)),
            deferred=make_deferred(self._aio, self._executor, queue.size),
        )

    @property
    def capacity(self) -> int:
        """Bytes that the driver sees."""
        return self._disk.size

    def resize(self, size: int) -> None:
        """Make the disk ``size`` bytes; the driver is told. StorageSizeError if the storage cannot."""
        self.storage.resize(size)

    def refresh(self) -> int:
        """Take over the storage's present size in bytes, which someone else may have changed."""
        return self.storage.refresh()

    def _resized(self, size: int) -> None:
        self._disk.size = size - size % self.config.blk_size
        self.set_config(capacity=self._disk.size // spec.SECTOR_SIZE)

    def close(self) -> None:
        """Let go of the threads, and of a storage opened here. UsageError while a driver is attached."""
        super().close()
        if not self._executor.close(CLOSE_SECONDS):
            # Closing would hand its file descriptor to someone else while a request still writes to it.
            logger.error("%s hangs: requests to it do not end, so it stays open", self.storage.name)
        elif self._owns_storage:
            self.storage.close()


def _check(num_queues: int, queue_size: int, block: int | None, cache: str, serial: str, aio: str) -> None:
    if not 1 <= num_queues <= 256:
        raise UsageError(f"a disk has 1 to 256 queues, not {num_queues}")
    if queue_size < 4:
        raise UsageError(f"a request takes up to three descriptors; a queue of {queue_size} is too small")
    if block not in (None, 512, 4096):
        raise UsageError(f"logical blocks have 512 or 4096 bytes, not {block}")
    if cache not in CACHES:
        raise UsageError(f"cache is writeback, writethrough or none, not {cache!r}")
    if aio not in AIO:
        raise UsageError(f"aio is {', '.join(AIO[:-1])} or {AIO[-1]}, not {aio!r}")
    if len(serial) > spec.ID_BYTES or not serial.isascii():
        raise UsageError(f"a serial number is up to {spec.ID_BYTES} ASCII characters, not {serial!r}")
