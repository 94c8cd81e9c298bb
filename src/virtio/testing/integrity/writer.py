"""Writes records to a disk until its service is killed, and keeps the ledger."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from subprocess import Popen

from virtio.drivers import Blk
from virtio.drivers.blk.operation import BlkRequest, Piece
from virtio.errors import DeviceGoneError
from virtio.spec import blk
from virtio.testing.integrity.ledger import PLACE, PLACES, Ledger
from virtio.testing.integrity.service import bytes_by_calls
from virtio.testing.page_cache import page_cache

__all__ = ["Writer"]

BATCH = 32
WINDOW = 32  # places of half a mebibyte, which a mapping is proven for at once
MOST_SECONDS = 0.15  # under load until the kill


class Writer:
    """Of one service, which is to be killed: ``fd`` is the file it serves."""

    def __init__(self, disk: Blk, ledger: Ledger, process: Popen[bytes], fd: int) -> None:
        self._disk = disk
        self._ledger = ledger
        self._process = process
        self._fd = fd
        self._buffers = [disk.buffer(PLACE) for _ in range(BATCH)]
        self._completed: deque[BlkRequest] = deque()
        self._places: dict[BlkRequest, int] = {}
        self._snapshots: dict[BlkRequest, dict[int, int]] = {}
        self._timer = threading.Timer(
            ledger.rng.uniform(0.0, MOST_SECONDS), os.kill, (process.pid, signal.SIGKILL)
        )
        self.bytes_acknowledged = 0
        self.bytes_mapped = 0  # at least so many of them were written through the mapping
        self.unflushed: list[str] = []
        self.checks = 0

    def write_until_killed(self, *, at_once: bool) -> None:
        """The kill comes at a random moment; unless ``at_once``, of the time after the first promise."""
        try:
            if at_once:
                self._timer.start()
            self._round()
            if not at_once:
                self._timer.start()
            while True:
                self._round()
        except DeviceGoneError:
            pass
        finally:
            if not self._timer.is_alive():
                self._timer.cancel()
            if self._timer.ident is not None:
                self._timer.join()
        self._process.wait()

    def _round(self) -> None:
        """Some batches, then all is made durable.

        Sometimes all are in one part of the file, which warms to it: then it is written through the mapping,
        if it has no holes. So it is in the first round.
        """
        dice = self._ledger.rng
        first = not self.bytes_acknowledged
        start = dice.randrange(PLACES // WINDOW // 2 if first else PLACES // WINDOW) * WINDOW
        warm = first or dice.random() < 0.5
        among = range(start, start + WINDOW) if warm else range(PLACES)
        for _ in range((16 if first else dice.choice((1, 1, 4, 16))) if self._ledger.writeback else 1):
            self._batch(among, flush=self._ledger.writeback and not warm)
        if self._ledger.writeback:
            self._flush()
            self._settle()
        self._look()

    def _batch(self, among: range, *, flush: bool) -> None:
        """Some places at once, on all queues, sometimes with flushes among them."""
        queues = len(self._disk.queues)
        for buffer, place in zip(self._buffers, self._ledger.rng.sample(among, BATCH), strict=True):
            record = self._ledger.begin(place)
            buffer.view[: len(record)] = record
            piece = self._disk.transfer(blk.T_OUT, place * PLACE, buffer.slice(0, len(record)))[0]
            self._places[self._submit(piece, place % queues)] = place
        if flush:
            self._reap()
            self._flush()
        self._settle()

    def _flush(self) -> None:
        """Send one; what it covers is what was acknowledged before."""
        queue = self._ledger.rng.randrange(len(self._disk.queues))
        snapshot = dict(self._ledger.acknowledged)
        self._snapshots[self._submit(Piece(blk.T_FLUSH), queue)] = snapshot

    def _submit(self, piece: Piece, queue: int) -> BlkRequest:
        request = self._disk.block_queues[queue].submit(piece, self._completed.append)
        assert request is not None  # the queue holds a batch and its flush
        return request

    def _settle(self) -> None:
        while self._places or self._snapshots:
            self._reap()
            time.sleep(0)

    def _reap(self) -> None:
        self._disk.poll()
        while self._completed:
            request = self._completed.popleft()
            request.result()
            if request in self._places:
                self.bytes_acknowledged += self._ledger.acknowledge(self._places.pop(request))
            else:
                self._ledger.promise(self._snapshots.pop(request))

    def _look(self) -> None:
        """All is promised and nothing in flight: nothing of the file may be only in memory."""
        found = page_cache(self._fd)
        if found is not None:
            self.checks += 1
            if found.dirty or found.writeback:
                self.unflushed.append(
                    f"{found.dirty + found.writeback} pages not on the medium after a promise"
                )
        if self._process.poll() is None:
            self.bytes_mapped = max(0, self.bytes_acknowledged - bytes_by_calls(self._process.pid)[1])
