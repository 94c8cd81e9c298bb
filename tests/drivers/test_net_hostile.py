"""Network devices that lie, served by hand: each lie is a named error, and the queue is not used again."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

import pytest
from loopback import Loopback, Served

from virtio.drivers import Net, NetLoadOptions, NetOptions, run_net_load
from virtio.errors import (
    DeviceError,
    FrameBuffersError,
    FrameHeaderError,
    RequestFailedError,
    UsedIdError,
    UsedLengthError,
)
from virtio.spec import features as bits
from virtio.spec import net

FEATURES = bits.mask(bits.VERSION_1, net.F_MRG_RXBUF, net.F_MAC, net.F_CTRL_VQ, net.F_CTRL_RX)
CONFIG = net.Config(mac=b"\x52\x54\x00\0\0\x01").pack()


def use(transport: Loopback, queue: Served, written: int, num_buffers: int = 1, id: int = 0) -> None:
    """Use the first receive buffer as the lie has it."""
    address, _, _, _ = struct.unpack("<QIHH", transport.memory.read(queue.addresses.descriptors, 16))
    transport.memory.write(address, struct.pack("<10xH", num_buffers))
    transport.memory.write(queue.addresses.device_area + 4, struct.pack("<II", id, written))
    transport.memory.write(queue.addresses.device_area + 2, struct.pack("<H", 1))


LIES: dict[str, tuple[type[DeviceError], Callable[[Loopback, Served], None]]] = {
    "nothing written": (FrameHeaderError, lambda t, q: use(t, q, 0)),
    "shorter than its header": (FrameHeaderError, lambda t, q: use(t, q, 11)),
    "longer than the buffer": (UsedLengthError, lambda t, q: use(t, q, 2049)),
    "in no buffer": (FrameBuffersError, lambda t, q: use(t, q, 100, 0)),
    "in more buffers than there are": (FrameBuffersError, lambda t, q: use(t, q, 100, 257)),
    "in a buffer beyond the ring": (UsedIdError, lambda t, q: use(t, q, 100, id=9999)),
}


def liar(lie: Callable[[Loopback, Served], None]) -> Callable[[Loopback, Served], None]:
    def act(transport: Loopback, queue: Served) -> None:
        first = next(iter(transport.queues.values()))
        if queue is first and transport.wait_kick(queue):
            lie(transport, queue)
            os.eventfd_write(queue.call, 1)

    return act


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_an_error(name: str) -> None:
    error, lie = LIES[name]
    transport = Loopback(rogue=liar(lie), features=FEATURES, config=CONFIG)
    with Net(transport, NetOptions(timeout=5.0)) as nic:
        with pytest.raises(error):
            nic.receive(timeout=5.0)
        with pytest.raises(DeviceError):
            nic.receive(timeout=5.0)


@pytest.mark.parametrize("polling", [True, False])
@pytest.mark.parametrize("name", LIES)
def test_the_load_generator_finds_it_too(name: str, polling: bool) -> None:
    error, lie = LIES[name]
    transport = Loopback(rogue=liar(lie), features=FEATURES, config=CONFIG)
    with Net(transport, NetOptions(timeout=5.0)) as nic, pytest.raises(error):
        run_net_load(nic, NetLoadOptions(receive=True, seconds=5.0, polling=polling))


def test_a_frame_whose_rest_never_comes_is_no_frame() -> None:
    transport = Loopback(rogue=liar(lambda t, q: use(t, q, 2048, 3)), features=FEATURES, config=CONFIG)
    with Net(transport, NetOptions(timeout=5.0)) as nic:
        assert nic.receive(timeout=0.2) == []


@pytest.mark.parametrize(("answer", "error"), [(b"\x01", RequestFailedError), (b"\x07", DeviceError)])
def test_what_the_control_queue_answers(answer: bytes, error: type[Exception]) -> None:
    def serve(readable: bytes, writable: list[memoryview]) -> int:
        if not readable:
            return -1
        writable[0][:1] = answer
        return 1

    with (
        Net(Loopback(serve=serve, features=FEATURES, config=CONFIG), NetOptions(timeout=5.0)) as nic,
        pytest.raises(error),
    ):
        nic.set_rx_mode(promisc=True)


def test_commands_as_the_device_sees_them() -> None:
    seen = []

    def serve(readable: bytes, writable: list[memoryview]) -> int:
        if not readable:
            return -1
        seen.append(readable)
        writable[0][:1] = b"\0"
        return 1

    features = FEATURES | bits.mask(net.F_CTRL_VLAN, net.F_CTRL_MAC_ADDR, net.F_NOTF_COAL)
    with Net(Loopback(serve=serve, features=features, config=CONFIG), NetOptions(timeout=5.0)) as nic:
        nic.set_rx_mode(promisc=True, allmulti=False)
        nic.set_vlan(0x123)
        nic.set_vlan(0x123, on=False)
        nic.set_mac("52:54:00:00:00:09")
        nic.set_mac_table(["52:54:00:00:00:01"], [])
        nic.set_coalescing(receive=True, max_packets=8, max_usecs=50)
        assert nic.mac == "52:54:00:00:00:09"
    assert seen == [
        b"\0\0\1",
        b"\0\1\0",
        b"\2\0\x23\x01",
        b"\2\1\x23\x01",
        b"\1\1\x52\x54\0\0\0\x09",
        b"\1\0" + b"\1\0\0\0\x52\x54\0\0\0\x01" + b"\0\0\0\0",
        b"\6\1" + struct.pack("<II", 8, 50),
    ]
