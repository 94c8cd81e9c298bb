"""Requests that are with the kernel: when they end, in which order, and what becomes of those that do not."""

from __future__ import annotations

import logging
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import pytest

from virtio.devices.blk import Blk, aio
from virtio.devices.blk import device as blk_device
from virtio.devices.blk.aio import io_uring_problem
from virtio.devices.blk.deferred import Deferred
from virtio.devices.blk.executor import Executor
from virtio.spec import blk as spec
from virtio.storage import Storage
from virtio.storage.file_backend import DirectBackend

OK, IOERR = spec.S_OK, spec.S_IOERR
BLOCK = 4096
needs_io_uring = pytest.mark.skipif(bool(io_uring_problem()), reason=io_uring_problem())


def header(kind: int, sector: int = 0) -> bytes:
    return struct.pack("<IIQ", kind, 0, sector)


@pytest.fixture(params=["lazy", "as before Linux 6.1"])
def ring(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Disks use a ring of this kind."""
    from virtio.devices.blk.uring import UringDeferred

    def make(executor: Executor, size: int) -> Deferred:
        return UringDeferred(executor, size, lazy=request.param == "lazy")

    monkeypatch.setattr(aio, "_ring", make)


class Wire(Storage):
    """Reads of sector 0 end when the test sends something; writes to it when there is room."""

    def __init__(self, end: socket.socket) -> None:
        super().__init__(1 << 20)
        self._end = end

    @property
    def fd(self) -> int:
        return self._end.fileno()

    @cached_property
    def backend(self) -> DirectBackend:
        return DirectBackend(self.fd, False, 512)

    def take(self) -> bool:
        """Take what was sent, if it is still there."""
        try:
            return bool(self._end.recv(1024, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False


@pytest.fixture
def wire() -> Iterator[tuple[Wire, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.settimeout(20)
    with ours, theirs:
        yield Wire(ours), theirs


@needs_io_uring
@pytest.mark.usefixtures("ring")
def test_what_comes_later_may_be_done_earlier(guest, wire) -> None:
    storage, far = wire
    with Blk(storage) as disk:
        g = guest(disk)
        reads = [g.submit([header(spec.T_IN)], [512, 1]) for _ in range(2)]
        g.kick()
        assert g.ask([header(spec.T_OUT), b"w" * 512], [1]).status == OK
        assert far.recv(1024) == b"w" * 512
        assert g.ask([header(spec.T_GET_ID)], [20, 1]).status == OK
        far.send(b"a" * 512)
        far.send(b"b" * 512)
        assert {answer.data for answer in g.wait(*reads)} == {b"a" * 512, b"b" * 512}
        assert disk._executor.threads == 0
        g.close()


@needs_io_uring
@pytest.mark.usefixtures("ring")
@pytest.mark.parametrize("poll_us", [0, 50])
def test_no_wake_up_is_lost(guest, wire, poll_us: int) -> None:
    """Answers come at any moment of the worker's way to sleep."""
    storage, far = wire
    rounds = 5000

    def feed() -> None:
        rng = random.Random(poll_us)
        for number in range(rounds):
            for _ in range(rng.choice((0, 0, 1, 10, 100, 400))):
                pass
            far.send(number.to_bytes(4, "big") * 128)

    with Blk(storage) as disk:
        g = guest(disk, poll_us=poll_us)
        feeder = threading.Thread(target=feed)
        feeder.start()
        tokens: list[int] = []
        found = set()
        for number in range(rounds):
            while len(tokens) < 1 + number % 3 and number + len(tokens) < rounds:
                tokens.append(g.submit([header(spec.T_IN)], [512, 1]))
            g.kick()
            (answer,) = g.wait(tokens.pop(0))
            assert answer.data == answer.data[:4] * 128
            found.add(answer.data)
        assert len(found) == rounds
        feeder.join()
        g.close()


@needs_io_uring
@pytest.mark.usefixtures("ring")
def test_no_wake_up_is_lost_among_many(guest, wire) -> None:
    """Whatever comes has the kernel look at all that wait, but not in one go; and half of what comes is taken
    away before, so that a look finds nothing.
    """
    storage, far = wire
    rng = random.Random(1)
    with Blk(storage) as disk:
        g = guest(disk, size=256)
        for _ in range(50):
            tokens = [g.submit([header(spec.T_IN)], [512, 1]) for _ in range(80)]
            g.kick()
            for _ in range(60):
                far.send(b"x" * 512)
                for _ in range(rng.choice((0, 0, 100, 1000, 10000))):
                    pass
                if not storage.take():
                    tokens.remove(g.wait_any(tokens))
            for _ in tokens:
                far.send(b"y" * 512)
            g.wait(*tokens)
            g.recycle()
        g.close()


@needs_io_uring
def test_a_wait_for_storage_uses_no_processor_time(guest, wire) -> None:
    storage, far = wire
    with Blk(storage) as disk:
        g = guest(disk)
        token = g.submit([header(spec.T_IN)], [512, 1])
        g.kick()
        assert g.ask([header(spec.T_GET_ID)], [20, 1]).status == OK
        time.sleep(0.1)
        before = g.attachment.vrings[0].stats()
        time.sleep(0.3)
        assert g.attachment.vrings[0].stats() == before  # a loop that finds nothing would count its sleeps
        far.send(bytes(512))
        assert g.wait(token)[0].status == OK
        g.close()


@needs_io_uring
@pytest.mark.usefixtures("ring")
@pytest.mark.parametrize("ending", ["reset", "stop"])
def test_a_request_that_does_not_end_is_cancelled(
    guest, wire, ending: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(blk_device, "DRAIN_SECONDS", 0.1)
    with Blk(wire[0]) as disk:
        g = guest(disk)
        for _ in range(3):
            g.submit([header(spec.T_IN)], [512, 1])
        g.kick()
        assert g.ask([header(spec.T_GET_ID)], [20, 1]).status == OK
        if ending == "reset":
            g.attachment.reset()
        else:
            g.attachment.vrings[0].stop()
        assert not g.faults  # none had to be abandoned
        g.close()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@needs_io_uring
@pytest.mark.usefixtures("ring")
def test_a_disk_goes_on_after_a_pause_that_cancelled(guest, wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blk_device, "DRAIN_SECONDS", 0.1)
    storage, far = wire
    with Blk(storage) as disk:
        g = guest(disk)
        token = g.submit([header(spec.T_IN)], [512, 1])
        g.kick()
        assert g.ask([header(spec.T_GET_ID)], [20, 1]).status == OK
        g.attachment.vrings[0].set_enabled(False)
        g.attachment.vrings[0].set_enabled(True)
        assert g.wait(token)[0].status == IOERR
        token = g.submit([header(spec.T_IN)], [512, 1])
        g.kick()
        assert g.ask([header(spec.T_GET_ID)], [20, 1]).status == OK
        far.send(b"x" * 512)
        assert g.wait(token)[0].data == b"x" * 512
        g.close()


@pytest.mark.parametrize("cache", ["writeback", "none"])
def test_a_file_that_ends_early(guest, tmp_path: Path, cache: str, aio: str) -> None:
    """A thread finds out what became of the bytes that the kernel did not move."""
    path = tmp_path / "disk.img"
    path.write_bytes(b"d" * 65536)
    with Blk(path, cache=cache) as disk:
        g = guest(disk)
        os.truncate(path, BLOCK)
        assert g.ask([header(spec.T_IN)], [2 * BLOCK, 1]).status == IOERR
        assert g.ask([header(spec.T_IN, 16)], [BLOCK, 1]).status == IOERR
        assert disk._executor.threads > 0
        os.truncate(path, 65536)
        assert g.ask([header(spec.T_IN)], [2 * BLOCK, 1]).data == b"d" * BLOCK + bytes(BLOCK)
        g.close()


class Blocks(Storage):
    """A file past the page cache, of a medium that knows only whole blocks of 4096 bytes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.stat().st_size)
        self.fd_ = os.open(path, os.O_RDWR | os.O_DIRECT)

    @property
    def fd(self) -> int:
        return self.fd_

    @cached_property
    def backend(self) -> DirectBackend:
        return DirectBackend(self.fd_, False, BLOCK)

    @property
    def can_discard(self) -> bool:
        return True


@pytest.fixture
def blocks(tmp_path: Path) -> Iterator[Blocks]:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(1 << 20))
    try:
        storage = Blocks(path)
    except OSError as error:
        pytest.skip(f"no O_DIRECT here: {error}")
    yield storage
    os.close(storage.fd)


@pytest.mark.parametrize("threads", [True, False])
def test_parts_of_blocks_among_whole_ones(
    guest, blocks: Blocks, aio: str, threads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts wait until all whole blocks are written: nobody may wait for what only they can finish."""
    if not threads:
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if thread.name == "virtio-blk-io":
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)
    oracle = bytearray(1 << 20)
    rng = random.Random(threads)
    with Blk(blocks, num_queues=2, logical_block_size=512) as disk:
        g = guest(disk, size=256)
        for _ in range(12):
            tokens = []
            for slot in rng.sample(range(32), 24):  # of 32 KiB, so that none overlap
                tokens.append(_change(g, rng, oracle, slot * 64))
            g.kick(0)
            g.kick(1)
            assert {answer.status for answer in g.wait(*tokens)} == {OK}
            g.recycle()
        assert disk._executor.threads == 0 or threads
        read = b"".join(g.ask([header(spec.T_IN, at)], [1 << 16, 1]).data for at in range(0, 2048, 128))
        g.close()
    assert read == oracle
    assert os.pread(os.open(f"/proc/self/fd/{blocks.fd}", os.O_RDONLY | os.O_CLOEXEC), 1 << 20, 0) == oracle


def _change(g, rng: random.Random, oracle: bytearray, sector: int) -> int:  # type: ignore[no-untyped-def]
    """Ask for one change within 64 sectors from ``sector`` on; whole blocks as often as parts."""
    unit = rng.choice((1, 8))
    first = sector + rng.randrange(0, 32, unit)
    count = rng.randrange(unit, 33, unit)
    queue = rng.randrange(2)
    span = slice(first * 512, (first + count) * 512)
    if rng.random() < 0.7:
        oracle[span] = rng.randbytes(count * 512)
        return int(g.submit([header(spec.T_OUT, first), bytes(oracle[span])], [1], queue=queue))
    oracle[span] = bytes(count * 512)
    zero = struct.pack("<QII", first, count, rng.randrange(2))
    return int(g.submit([header(spec.T_WRITE_ZEROES), zero], [1], queue=queue))
