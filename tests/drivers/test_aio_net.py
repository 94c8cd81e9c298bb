"""The network driver on an event loop, with a device of ours over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from virtio.devices.net.device import Net as Device
from virtio.drivers import aio
from virtio.drivers.net.load import sample_frame
from virtio.errors import DeviceGoneError, DeviceTimeoutError, UsageError
from virtio.service import serving

MAC = bytes.fromhex("525400123456")


@asynccontextmanager
async def connected(
    path: Path, link: str = "loop:", pairs: int = 1, **options: Any
) -> AsyncIterator[aio.Net]:
    address = str(path / "net.sock")
    with Device(link, num_queues=pairs, mac=MAC) as device, serving(device, address):
        async with await aio.Net.connect(address, num_queues=pairs, **{"timeout": 10.0, **options}) as nic:
            yield nic


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), 30))


def numbered(count: int) -> list[bytes]:
    return [sample_frame(64, MAC)[:-4] + number.to_bytes(4, "big") for number in range(count)]


async def take(nic: aio.Net, count: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < count:
        found += [bytes(frame) for frame in await nic.receive(count - len(found))]
    return found


def test_frames_are_awaited(tmp_path: Path, packed: bool) -> None:
    async def main() -> None:
        async with connected(tmp_path, packed=packed) as nic:
            assert (nic.mac, nic.link_up, nic.mtu) == ("52:54:00:12:34:56", True, None)
            waiting = asyncio.create_task(take(nic, 100))
            await asyncio.sleep(0.01)  # it sleeps by now
            await nic.send(numbered(100))
            assert await waiting == numbered(100)
            await nic.flush()

    run(main)


def test_a_burst_longer_than_the_ring_waits_for_room(tmp_path: Path, packed: bool) -> None:
    """Many tasks at once, each with more than there is room for."""

    async def main() -> None:
        async with connected(tmp_path, "null:", packed=packed, queue_size=16) as nic:
            await asyncio.gather(*(nic.send(numbered(500)) for _ in range(8)))
            await nic.flush()
            assert nic.nic.stats()["sent"] == 4000

    run(main)


def test_frames_of_all_pairs_one_after_the_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(tmp_path, pairs=2) as nic:
            for pair in (0, 1):
                await nic.send(numbered(10), pair=pair)
            seen = [bytes(frame) async for frame in first(nic.frames(), 20)]
            assert sorted(seen) == sorted(numbered(10) * 2)

    run(main)


async def first(frames: AsyncIterator[Any], count: int) -> AsyncIterator[Any]:
    async for frame in frames:
        yield frame
        count -= 1
        if not count:
            return


def test_who_waits_costs_nothing_and_may_be_cancelled(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(tmp_path) as nic:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(nic.receive(), 0.05)
            await nic.send(numbered(1))
            assert await take(nic, 1) == numbered(1)

    run(main)


def test_the_end_is_met_while_waiting(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(tmp_path) as nic:
            await met_by(nic.receive(), nic.close())

    run(main)


async def met_by(waiting: Awaitable[Any], event: Awaitable[Any]) -> None:
    task = asyncio.ensure_future(waiting)
    await asyncio.sleep(0.05)
    await event
    with pytest.raises(DeviceGoneError):
        await task


def test_a_device_that_takes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(tmp_path, "null:", timeout=0.2) as nic:
            queue = nic.nic.pairs[0].transmit_queue
            nic.nic.transport.enable_queue(queue.index, enabled=False)
            with pytest.raises(DeviceTimeoutError):
                await nic.send(numbered(1000))
            nic.nic.transport.enable_queue(queue.index, enabled=True)
            with pytest.raises(UsageError):
                await nic.send([b"short"])

    run(main)
