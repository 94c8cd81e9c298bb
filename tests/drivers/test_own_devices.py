"""The drivers against pyvirtio's own devices, over a real vhost-user socket."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from virtio.devices.blk import Blk as BlkDevice
from virtio.devices.entropy import Entropy as EntropyDevice
from virtio.drivers import Blk, Entropy, LoadOptions, aio, run_load
from virtio.drivers.probe import probe
from virtio.errors import DeviceGoneError, HostError, PeerError
from virtio.service import serving
from virtio.spec import features as bits


@contextmanager
def served(folder: Path, storage: str = "mem:16M", **options: Any) -> Iterator[str]:
    path = str(folder / "disk.sock")
    with serving(BlkDevice(storage, **options), path):
        yield path


def test_everything_a_disk_can_do(tmp_path: Path, packed: bool) -> None:
    data = os.urandom(3 << 20)
    with served(tmp_path, serial="number 5") as path, Blk.connect(path, packed=packed) as disk:
        assert disk.has(bits.RING_PACKED) == packed
        assert disk.serial == "number 5"
        assert disk.capacity == 16 << 20
        disk.write(512, data)
        disk.flush()
        assert disk.read(512, len(data)) == data
        disk.write_zeroes(1 << 20, 1 << 20)
        assert disk.read(1 << 20, 1 << 20) == bytes(1 << 20)
        disk.discard(0, 1 << 20)
        for mode in (False, True):
            disk.writeback = mode
            assert disk.writeback == mode
        disk.write(0, data)
        disk.restart()
        assert disk.read(0, len(data)) == data


def test_many_queues_verify_under_load(tmp_path: Path, packed: bool) -> None:
    with (
        served(tmp_path, num_queues=4) as path,
        Blk.connect(path, num_queues=4, packed=packed, queue_size=256) as disk,
    ):
        assert len(disk.queues) == 4
        for polling in (True, False):
            options = LoadOptions(
                requests=20_000, seconds=None, read_percent=50, verify=True, depth=64, polling=polling
            )
            result = run_load(disk, options)
            assert result.requests == 20_000
            assert (result.errors, result.mismatches) == (0, 0)


def test_a_queue_filled_to_the_brim(tmp_path: Path, packed: bool) -> None:
    with served(tmp_path) as path, Blk.connect(path, packed=packed, queue_size=16) as disk:
        result = run_load(disk, LoadOptions(requests=5000, seconds=None, depth=16))
        assert (result.requests, result.errors) == (5000, 0)


def test_growing_memory_while_requests_run(tmp_path: Path) -> None:
    with served(tmp_path, num_queues=2) as path, Blk.connect(path, num_queues=2, arena_size=1 << 20) as disk:
        stop = threading.Event()
        wrong: list[int] = []

        def work() -> None:
            while not stop.is_set():
                disk.write(0, b"w" * 4096)
                if disk.read(0, 4096) != b"w" * 4096:
                    wrong.append(1)

        thread = threading.Thread(target=work)
        thread.start()
        buffers = [disk.buffer(1 << 20) for _ in range(6)]
        for number, buffer in enumerate(buffers):
            buffer.view[:] = bytes([number]) * (1 << 20)
            disk.write((1 + number) << 20, buffer)
        stop.set()
        thread.join(10)
        assert disk.read(6 << 20, 4096) == b"\5" * 4096
        assert len(disk.arena.regions) > 3
        assert wrong == []


def test_asyncio(tmp_path: Path, packed: bool) -> None:
    async def main(path: str) -> None:
        async with await aio.Blk.connect(path, packed=packed, num_queues=2) as disk:
            await asyncio.gather(*(disk.write(n * 4096, bytes([n % 251]) * 4096) for n in range(1000)))
            back = await asyncio.gather(*(disk.read(n * 4096, 4096) for n in range(1000)))
            assert all(data == bytes([n % 251]) * 4096 for n, data in enumerate(back))

    with served(tmp_path, num_queues=2) as path:
        asyncio.run(asyncio.wait_for(main(path), 60))


def test_a_server_that_stops_fails_what_waits(tmp_path: Path) -> None:
    with served(tmp_path) as path:
        disk = Blk.connect(path, timeout=10)
        disk.write(0, bytes(512))

    def use() -> None:
        for _ in range(1000):
            disk.read(0, 512)

    with disk, pytest.raises(DeviceGoneError):
        use()


def test_one_device_after_another(tmp_path: Path, packed: bool) -> None:
    with served(tmp_path) as path:
        for number in range(5):
            with Blk.connect(path, packed=packed) as disk:
                disk.write(number * 512, bytes([number + 1]) * 512)
        with Blk.connect(path) as disk:
            assert disk.read(0, 5 * 512) == b"".join(bytes([number + 1]) * 512 for number in range(5))


def test_entropy(tmp_path: Path) -> None:
    path = str(tmp_path / "rng.sock")
    with serving(EntropyDevice(), path), Entropy.connect(path) as source:
        first, second = source.read(1000), source.read(100_000)
    assert len(first) == 1000
    assert len(second) == 100_000
    assert len(set(second)) == 256
    assert first != second[:1000]


def test_probing_a_disk_and_a_random_source(tmp_path: Path) -> None:
    with served(tmp_path, num_queues=3) as path:
        found = probe(path)
        assert (found.device_id, found.queues) == (2, 3)
        assert found.config["capacity"] == 16 << 11
        assert probe(path, device_id=4).device_id == 4
    path = str(tmp_path / "rng.sock")
    with serving(EntropyDevice(), path):
        assert probe(path).device_id == 4


def test_nobody_listens(tmp_path: Path) -> None:
    for connect in (Blk.connect, Entropy.connect, probe):
        with pytest.raises(HostError, match="cannot connect"):
            connect(str(tmp_path / "nothing.sock"))


def test_a_socket_that_is_something_else(tmp_path: Path) -> None:
    import socket

    path = str(tmp_path / "chat.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def greet() -> None:
            for _ in range(2):
                connection = listener.accept()[0]
                connection.sendall(b'{"QMP": {"version": "certainly not vhost-user"}}\r\n')
                connection.close()

        thread = threading.Thread(target=greet)
        thread.start()
        for connect in (Blk.connect, probe):
            with pytest.raises(PeerError):
                connect(path)
        thread.join(5)
