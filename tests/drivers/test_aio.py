from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from loopback import Disk, Loopback, blk_config

from virtio.drivers import Blk, aio
from virtio.drivers.transport import EventKind
from virtio.errors import DeviceGoneError, DeviceIOError, DeviceTimeoutError, UsageError
from virtio.spec import blk

Connect = Callable[..., Blk]


def loopback(disk: Disk | None = None, **changes: Any) -> Loopback:
    return Loopback(**{"serve": disk or Disk(), "config": blk_config(), **changes})


def test_requests_are_awaited(connect: Connect, packed: bool) -> None:
    async def main() -> None:
        disk = aio.Blk(connect(loopback(), packed=packed))
        await disk.write(0, b"a" * 1024)
        await disk.flush()
        assert await disk.read(512, 1024) == b"a" * 512 + bytes(512)
        await disk.write_zeroes(0, 512)
        await disk.discard(512, 512)
        assert await disk.read(0, 1024) == bytes(1024)
        assert await disk.serial() == "loopback"
        assert disk.capacity == disk.disk.capacity
        await disk.close()

    asyncio.run(main())


def test_more_in_flight_than_the_queues_hold(connect: Connect, packed: bool) -> None:
    model = Disk()

    async def main() -> None:
        async with aio.Blk(connect(loopback(model), packed=packed, queue_size=8, num_queues=2)) as disk:
            await asyncio.gather(*(disk.write(n * 512, bytes([n % 251]) * 512) for n in range(1000)))
            back = await asyncio.gather(*(disk.read(n * 512, 512) for n in range(1000)))
            assert all(data == bytes([n % 251]) * 512 for n, data in enumerate(back))

    asyncio.run(asyncio.wait_for(main(), 30))
    assert len(model.seen) == 2000


def test_buffers_are_not_copied(connect: Connect) -> None:
    async def main() -> None:
        async with aio.Blk(connect(loopback())) as disk:
            with disk.disk.buffer(4096) as buffer:
                buffer.view[:] = b"q" * 4096
                await disk.write(0, buffer)
                buffer.view[:] = bytes(4096)
                await disk.read_into(0, buffer)
                assert bytes(buffer.view) == b"q" * 4096

    asyncio.run(main())


def test_errors_arrive_where_they_belong(connect: Connect) -> None:
    model = Disk()
    model.status = {blk.T_OUT: blk.S_IOERR}

    async def main() -> None:
        async with aio.Blk(connect(loopback(model))) as disk:
            write, read = await asyncio.gather(
                disk.write(0, bytes(512)), disk.read(0, 512), return_exceptions=True
            )
            assert isinstance(write, DeviceIOError)
            assert read == bytes(512)
            with pytest.raises(UsageError):
                await disk.read(1, 1)

    asyncio.run(main())


def test_a_device_that_dies_fails_every_task(connect: Connect) -> None:
    transport = loopback(serve=lambda readable, writable: -1)

    async def main() -> None:
        disk = aio.Blk(connect(transport, queue_size=4, timeout=None))
        tasks = [asyncio.create_task(disk.read(0, 512)) for _ in range(20)]
        await asyncio.sleep(0.05)
        transport.say(EventKind.GONE)
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        assert all(isinstance(result, DeviceGoneError) for result in results)
        await disk.close()

    asyncio.run(main())


def test_time_is_limited_and_cancelling_leaks_nothing(connect: Connect) -> None:
    release = threading.Event()
    model = Disk()

    def slow(readable: bytes, writable: list[memoryview]) -> int:
        release.wait(5)
        return model(readable, writable)

    async def main() -> None:
        async with aio.Blk(connect(loopback(serve=slow), timeout=0.1)) as disk:
            free = disk.disk.arena.free_bytes
            with pytest.raises(DeviceTimeoutError):
                await disk.read(0, 512)
            task = asyncio.create_task(disk.write(0, bytes(512)))
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()
            release.set()
            for _ in range(500):
                if disk.disk.arena.free_bytes == free:
                    break
                await asyncio.sleep(0.01)
            assert disk.disk.arena.free_bytes == free
            assert await disk.read(0, 512) == bytes(512)

    asyncio.run(main())
