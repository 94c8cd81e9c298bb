"""A session over a real socket pair, on a fake device: what each request does, and how each is refused."""

import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from virtio.errors import DeviceGoneError, NotSharedError, ProtocolError, RefusedError, VirtioError
from virtio.testing.memory import SharedMemory
from virtio.vhost_user import backend
from virtio.vhost_user.control import OFFERED
from virtio.vhost_user.frontend import DEFAULT_PROTOCOL_FEATURES, Frontend, SharedRegion
from virtio.vhost_user.memory import MAX_SLOTS
from virtio.vhost_user.messages import NEED_REPLY, FrontendRequest, ProtocolFeature
from virtio.vhost_user.rings import state_from_base, state_to_base
from virtio.virtqueue.state import QueueState

F = FrontendRequest
P = ProtocolFeature
Served = Callable[..., SimpleNamespace]

pytestmark = pytest.mark.usefixtures("no_fd_leaks")
NO_ACK = DEFAULT_PROTOCOL_FEATURES & ~P.REPLY_ACK.mask
VERSION_1 = 1 << 32
PACKED = 1 << 34
MIB = 1 << 20


@contextmanager
def frontend(made: SimpleNamespace, protocol_features: int = DEFAULT_PROTOCOL_FEATURES) -> Iterator[Frontend]:
    with Frontend.from_socket(made.socket, protocol_features=protocol_features, timeout=5) as front:
        yield front


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    with SharedMemory(MIB, guest_address=0x10000) as made:
        yield made


def eventfd() -> int:
    return os.eventfd(0, os.EFD_CLOEXEC)


def give(fd: int, send: Callable[[int], None]) -> None:
    """Send a descriptor and keep none."""
    try:
        send(fd)
    finally:
        os.close(fd)


def set_up(
    front: Frontend, memory: SharedMemory, index: int = 0, *, base: int = 0, enable: bool = True
) -> None:
    front.set_vring_num(index, 128)
    front.set_vring_base(index, base)
    front.set_vring_addr(index, memory.user(0), memory.user(0x1000), memory.user(0x2000))
    give(eventfd(), lambda fd: front.set_vring_kick(index, fd))
    give(eventfd(), lambda fd: front.set_vring_call(index, fd))
    if enable:
        front.set_vring_enable(index)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_negotiation(served: Served) -> None:
    made = served()
    with frontend(made) as front:
        assert front.get_features() == made.attachment.offered_features
        assert front.get_protocol_features() == OFFERED
        front.set_features(VERSION_1)
        assert made.attachment.features == VERSION_1
        assert front.get_queue_num() == 2
        assert front.get_max_mem_slots() == MAX_SLOTS
    assert made.ended.wait(5)
    assert made.attachment.closed
    assert made.reports == []


def test_platform_access_is_not_offered(served: Served) -> None:
    made = served()
    made.attachment.offered_features |= 1 << 33
    with frontend(made) as front:
        assert not front.get_features() & 1 << 33
        with pytest.raises(RefusedError):
            front.set_features(1 << 33)


def test_withheld_protocol_features(served: Served) -> None:
    made = served(withhold=P.CONFIG.mask | P.LOG_SHMFD.mask)
    with frontend(made) as front:
        assert front.get_protocol_features() == OFFERED & ~P.CONFIG.mask & ~P.LOG_SHMFD.mask
        assert not front.has(P.CONFIG)


@pytest.mark.parametrize("protocol_features", [DEFAULT_PROTOCOL_FEATURES, NO_ACK])
def test_a_feature_that_was_not_offered(served: Served, protocol_features: int) -> None:
    made = served()
    with frontend(made, protocol_features) as front:
        if protocol_features & P.REPLY_ACK.mask:
            with pytest.raises(RefusedError, match="SET_FEATURES"):
                front.set_features(1 << 60)
            front.get_features()
        else:
            with pytest.raises(DeviceGoneError):
                front.set_features(1 << 60), front.get_features()
    wait_for(lambda: made.reports)


def test_rings_are_disabled_with_bit_30_and_enabled_without(served: Served) -> None:
    made = served()
    with frontend(made) as front:
        front.set_features(VERSION_1)
        assert [ring.enabled for ring in made.attachment.vrings] == [False, False]
        front._call(F.SET_FEATURES, payload_number(VERSION_1))
        assert [ring.enabled for ring in made.attachment.vrings] == [True, True]


def payload_number(value: int):  # type: ignore[no-untyped-def]
    from virtio.vhost_user.payloads import Number

    return Number(value)


@pytest.mark.parametrize("slots", [True, False])
def test_a_ring_from_start_to_stop(served: Served, memory: SharedMemory, slots: bool) -> None:
    made = served()
    memory.bytes[0x2002:0x2004] = struct.pack("<H", 41)
    with frontend(made) as front:
        front.set_features(VERSION_1)
        (front.add_mem_region if slots else lambda region: front.set_mem_table([region]))(memory.region)
        set_up(front, memory, base=43)
        ring = made.attachment.vrings[0]
        assert ring.log == [
            ("size", 128),
            ("addresses", memory.user(0), memory.user(0x1000), memory.user(0x2000), True),
            ("kick", True),
            ("state", QueueState(43, 41)),
            ("start",),
            ("call", True),
            ("enabled", True),
        ]
        assert not made.attachment.vrings[1].log
        ring.state = QueueState(50, 50)
        assert front.get_vring_base(0) == 50
        assert not ring.running
        assert front.get_vring_base(1) == 0


def test_a_packed_ring(served: Served, memory: SharedMemory) -> None:
    made = served()
    with frontend(made) as front:
        front.set_features(VERSION_1 | PACKED)
        front.add_mem_region(memory.region)
        set_up(front, memory, base=5 | 1 << 15 | 7 << 16)
        ring = made.attachment.vrings[0]
        assert ring.state == QueueState(5, 7, True, False)
        assert front.get_vring_base(0) == 5 | 1 << 15 | 7 << 16


@pytest.mark.parametrize(
    ("base", "packed", "state"),
    [
        (0, True, QueueState()),
        (0x8000_8000, True, QueueState(0, 0, True, True)),
        (0x0005_8003, True, QueueState(3, 5, True, False)),
        (0x0000_8000, True, QueueState(0, 0, True, True)),  # as DPDK says it
        (0x0000_0007, True, QueueState(7, 7, False, False)),
        (0x1_2345, False, QueueState(0x2345, 0x2345)),
    ],
)
def test_bases(base: int, packed: bool, state: QueueState) -> None:
    assert state_from_base(base, packed) == state
    assert state_from_base(state_to_base(state, packed), packed) == state


def test_the_order_of_ring_messages_does_not_matter(served: Served, memory: SharedMemory) -> None:
    made = served()
    with frontend(made) as front:
        front.set_features(VERSION_1)
        front.add_mem_region(memory.region)
        give(eventfd(), lambda fd: front.set_vring_kick(0, fd))
        assert not made.attachment.vrings[0].running
        front.set_vring_num(0, 64)
        assert not made.attachment.vrings[0].running
        front.set_vring_addr(0, memory.user(0), memory.user(0x1000), memory.user(0x2000))
        assert made.attachment.vrings[0].running


def test_polled_and_descriptorless_rings(served: Served, memory: SharedMemory) -> None:
    made = served()
    with frontend(made) as front:
        front.set_features(VERSION_1)
        front.add_mem_region(memory.region)
        front.set_vring_kick(0, None)
        front.set_vring_call(0, None)
        front.set_vring_err(0, None)
        assert made.attachment.vrings[0].fds == {"kick": None, "call": None, "err": None}


def refused_calls(memory: SharedMemory) -> dict[str, Callable[[Frontend], object]]:
    region = memory.region
    return {
        "ring index": lambda front: front.set_vring_num(2, 64),
        "ring size 0": lambda front: front.set_vring_num(0, 0),
        "ring size": lambda front: front.set_vring_num(0, 32769),
        "enable": lambda front: front._call(F.SET_VRING_ENABLE, vring_state(0, 2)),
        "empty table": lambda front: front._call(F.SET_MEM_TABLE, memory_table()),
        "status": lambda front: front.set_status(256),
        "config flags": lambda front: front._call(F.SET_CONFIG, config_space(8, b"x", 2)),
        "read-only config": lambda front: front.set_config(0, b"x"),
        "unknown region": lambda front: front._call(F.REM_MEM_REG, single_region(1, 2, 3)),
        "no region": lambda front: front._call(F.ADD_MEM_REG, single_region(1, 0, 3), (region.fd,)),
        "wrapping region": lambda front: front.add_mem_region(region._replace(guest_address=(1 << 64) - 1)),
        "offset": lambda front: front.add_mem_region(region._replace(offset=1 << 63)),
        "ring of a kick": lambda front: front.set_vring_kick(9, None),
    }


def vring_state(index: int, num: int):  # type: ignore[no-untyped-def]
    from virtio.vhost_user.payloads import VringState

    return VringState(index, num)


def memory_table():  # type: ignore[no-untyped-def]
    from virtio.vhost_user.payloads import MemoryTable

    return MemoryTable(())


def config_space(offset: int, data: bytes, flags: int):  # type: ignore[no-untyped-def]
    from virtio.vhost_user.payloads import ConfigSpace

    return ConfigSpace(offset, data, flags)


def single_region(guest: int, size: int, user: int):  # type: ignore[no-untyped-def]
    from virtio.vhost_user.payloads import SingleRegion

    return SingleRegion(guest, size, user)


@pytest.mark.parametrize("acknowledged", [True, False])
@pytest.mark.parametrize("case", list(refused_calls(SharedMemory(4096))))
def test_refusals(served: Served, memory: SharedMemory, case: str, acknowledged: bool) -> None:
    """With acknowledgements the session goes on after each; without, it ends. Either is reported."""
    made = served()
    with frontend(made, DEFAULT_PROTOCOL_FEATURES if acknowledged else NO_ACK) as front:
        call = refused_calls(memory)[case]
        if acknowledged:
            with pytest.raises(RefusedError):
                call(front)
            assert front.get_queue_num() == 2
        else:
            with pytest.raises(DeviceGoneError):
                call(front), front.get_features()
            assert made.ended.wait(5)
    assert len(made.reports) == 1
    assert isinstance(made.reports[0], VirtioError)


def test_unoffered_and_unknown_requests(served: Served) -> None:
    made = served()
    with frontend(made) as front:
        front._exchange.features |= P.RARP.mask
        with pytest.raises(RefusedError, match="SEND_RARP"):
            front._call(F.SEND_RARP, payload_number(0))
        with pytest.raises(RefusedError, match="GPU_SET_SOCKET"):
            give(eventfd(), lambda fd: front._call(F.GPU_SET_SOCKET, None, (fd,)))
        with pytest.raises(RefusedError, match="IOTLB"):
            front._call(F.IOTLB_MSG, iotlb())
    assert [type(report) for report in made.reports] == [ProtocolError] * 3


def iotlb():  # type: ignore[no-untyped-def]
    from virtio.vhost_user.payloads import Iotlb

    return Iotlb(0, 4096, 0, 3, Iotlb.UPDATE)


def test_memory_slots(served: Served) -> None:
    made = served()
    with frontend(made) as front, SharedMemory(MIB) as one, SharedMemory(MIB, guest_address=MIB) as two:
        front.add_mem_region(one.region)
        front.add_mem_region(two.region)
        assert [m.guest_address for m in made.attachment.memory.regions] == [0, MIB]
        with pytest.raises(RefusedError):
            front.add_mem_region(one.region)
        front.remove_mem_region(one.region)
        assert [m.guest_address for m in made.attachment.memory.regions] == [MIB]
        two.bytes[5:8] = b"abc"
        assert made.attachment.memory.read(MIB + 5, 3) == b"abc"
        for wrong in (two.region._replace(guest_address=0), two.region._replace(user_address=1),
                      two.region._replace(size=4096)):  # fmt: skip
            with pytest.raises(RefusedError):
                front._call(F.REM_MEM_REG, single_region(*wrong[:2], wrong.user_address))
        assert len(made.attachment.memory.regions) == 1


def test_as_many_slots_as_promised(served: Served) -> None:
    made = served()
    with frontend(made) as front, SharedMemory(4096) as memory:
        for index in range(MAX_SLOTS):
            front.add_mem_region(memory.region._replace(guest_address=index << 12, user_address=index << 12))
        with pytest.raises(RefusedError):
            front.add_mem_region(memory.region._replace(guest_address=1 << 40))
        assert len(made.attachment.memory.regions) == MAX_SLOTS


def test_removal_with_a_descriptor_is_borne(served: Served, memory: SharedMemory) -> None:
    made = served()
    with frontend(made) as front:
        front.add_mem_region(memory.region)
        front._call(F.REM_MEM_REG, single_region(*memory.region[:3]), (memory.fd,))
        assert not made.attachment.memory.regions


def test_the_72_byte_table_of_user_mode_linux(served: Served, memory: SharedMemory) -> None:
    made = served()
    with frontend(made) as front:
        region = struct.pack("=4Q", 0, MIB, memory.user_address, 0)
        data = struct.pack("=IIIII", F.SET_MEM_TABLE, 1, 72, 1, 0) + region + bytes(32)
        socket.send_fds(made.socket, [data], [memory.fd])
        front.get_queue_num()
        assert len(made.attachment.memory.regions) == 1


@pytest.mark.parametrize(
    "share",
    [
        lambda front, fd: front._call(F.SET_MEM_TABLE, private_table()),
        lambda front, fd: front._call(F.ADD_MEM_REG, single_region(0, 4096, 0)),
        lambda front, fd: front.set_mem_table([SharedRegion(0, 4096, 0, 0, fd)]),
        lambda front, fd: front.add_mem_region(SharedRegion(0, 4096, 0, 0, fd)),
        lambda front, fd: front.set_vring_kick(0, fd),
    ],
    ids=["table without fds", "slot without fd", "table of an eventfd", "slot of an eventfd", "kick first"],
)
def test_memory_that_is_not_shared_is_named(served: Served, share: Callable[[Frontend, int], None]) -> None:
    made = served()
    with frontend(made) as front:
        with pytest.raises(RefusedError):
            give(eventfd(), lambda fd: share(front, fd))
        (report,) = made.reports
        assert isinstance(report, NotSharedError)
        assert "share=on" in report.report()
        assert "memory-backend-memfd" in report.fix


def private_table():  # type: ignore[no-untyped-def]
    from virtio.vhost_user.payloads import MemoryRegion, MemoryTable

    return MemoryTable((MemoryRegion(0, 4096, 0, 0),))


def test_a_front_end_that_leaves_without_sharing(served: Served) -> None:
    """What QEMU without share=on does: rings, no memory, gone."""
    made = served()
    with frontend(made) as front:
        front.set_features(VERSION_1)
        give(eventfd(), lambda fd: front.set_vring_call(0, fd))
    assert made.ended.wait(5)
    assert [type(report) for report in made.reports] == [NotSharedError]


def test_a_front_end_that_leaves_before_its_driver_came(served: Served) -> None:
    """QEMU that ends before the guest's driver starts: it has shared nothing yet, and need not have."""
    made = served()
    with frontend(made) as front:
        give(eventfd(), lambda fd: front.set_vring_call(0, fd))
    assert made.ended.wait(5)
    assert made.reports == []


@pytest.mark.parametrize(
    ("requests", "kicks", "written", "private"),
    [(0, 1, 0, True), (0, 1, 8192, False), (1, 1, 0, False), (0, 0, 0, False)],
)
def test_memory_that_is_a_private_copy(
    served: Served,
    memory: SharedMemory,
    monkeypatch: pytest.MonkeyPatch,
    requests: int,
    kicks: int,
    written: int,
    private: bool,
) -> None:
    """Descriptors came, and the driver kicks, but nothing that a guest wrote is there."""
    monkeypatch.setattr(backend, "_LOOK_SECONDS", 0.01)
    memory.bytes[0x8000 : 0x8000 + written] = b"g" * written
    made = served()
    with frontend(made) as front:
        front.set_features(VERSION_1)
        front.set_mem_table([memory.region])
        set_up(front, memory)
        made.attachment.vrings[0].counters.update(requests=requests, kicks=kicks)
        deadline = time.monotonic() + (5 if private else 0.3)
        while not made.reports and time.monotonic() < deadline:
            time.sleep(0.01)
        front.get_features()  # the session goes on in any case
    assert [type(report) for report in made.reports] == [NotSharedError] * private


def test_config(served: Served) -> None:
    made = served()
    with frontend(made) as front:
        assert front.get_config(4, 4) == bytes([4, 5, 6, 7])
        assert front.get_config(0, 60) == bytes(range(16)) + bytes(44)
        with pytest.raises(RefusedError):
            front.get_config(201, 4)
        front.set_config(8, b"hi")
        assert front.get_config(8, 2) == b"hi"
        front.set_config(0, b"all", migration=True)
        assert front.get_config(0, 3) == b"all"


def test_status_and_resets(served: Served, memory: SharedMemory) -> None:
    made = served()
    with frontend(made) as front:
        for reset in (front.reset_device, lambda: front.set_status(0)):
            front.set_features(VERSION_1)
            if not front.regions:
                front.add_mem_region(memory.region)
            set_up(front, memory)
            front.set_status(15)
            assert front.get_status() == 15
            assert made.attachment.vrings[0].running
            reset()
            assert not made.attachment.vrings[0].running
            assert not made.attachment.vrings[0].enabled
            assert made.attachment.memory.regions
        assert made.attachment.resets == 2
        set_up(front, memory)
        front.reset_owner()
        assert made.attachment.vrings[0].running
        assert not made.attachment.vrings[0].enabled


def test_config_changes_are_told_while_a_ring_runs(served: Served, memory: SharedMemory) -> None:
    made = served()
    with frontend(made) as front:
        changes: list[int] = []
        front._exchange.on_config_change = lambda: changes.append(1)
        made.attachment.on_config_change()
        front.set_features(VERSION_1)
        front.add_mem_region(memory.region)
        assert front.serve_back_channel(0.02) == 0
        assert changes == []
        set_up(front, memory)
        wait_for(lambda: front.serve_back_channel(0.02) or changes)
        assert changes == [1]
        for _ in range(3):
            made.attachment.on_config_change()
        wait_for(lambda: front.serve_back_channel(0.02) or len(changes) >= 2)
        while front.serve_back_channel(0.05):
            pass
        assert 2 <= len(changes) <= 4


def test_a_front_end_that_never_reads_its_back_channel(served: Served, memory: SharedMemory) -> None:
    made = served()
    with frontend(made) as front:
        front.set_features(VERSION_1)
        front.add_mem_region(memory.region)
        set_up(front, memory)
        for _ in range(2000):
            made.attachment.on_config_change()
        front._exchange._close_back_channel()
        made.attachment.on_config_change()
        assert front.get_queue_num() == 2


def test_in_band_notifications(served: Served, memory: SharedMemory) -> None:
    made = served()
    features = DEFAULT_PROTOCOL_FEATURES | P.INBAND_NOTIFICATIONS.mask
    with frontend(made, features) as front:
        heard: list[tuple[str, int]] = []
        front._exchange.on_vring_call = lambda index: heard.append(("call", index))
        front._exchange.on_vring_err = lambda index: heard.append(("err", index))
        front.set_features(VERSION_1)
        front.add_mem_region(memory.region)
        front.set_vring_num(1, 128)
        front.set_vring_addr(1, memory.user(0), memory.user(0x1000), memory.user(0x2000))
        front.set_vring_enable(1)
        front.vring_kick(1)
        ring = made.attachment.vrings[1]
        assert ring.running
        assert ring.log[-1] == ("kicked",)
        os.eventfd_write(ring.fds["call"], 1)
        wait_for(lambda: front.serve_back_channel(0.02) or heard)
        made.attachment.on_fault(1, VirtioError("broken"))
        wait_for(lambda: front.serve_back_channel(0.02) or len(heard) == 2)
        assert heard == [("call", 1), ("err", 1)]
        os.eventfd_write(ring.fds["call"], 1)
        front.get_vring_base(1)
        wait_for(lambda: front.serve_back_channel(0.02) or len(heard) == 3)
        assert heard[2] == ("call", 1)
        front.reset_device()
        assert ring.fds["call"] is not None


def test_a_front_end_that_gave_a_call_fd_hears_of_faults_by_no_message(
    served: Served, memory: SharedMemory
) -> None:
    """QEMU 7.2 accepts INBAND_NOTIFICATIONS and does not know VRING_ERR."""
    made = served()
    features = DEFAULT_PROTOCOL_FEATURES | P.INBAND_NOTIFICATIONS.mask
    with frontend(made, features) as front:
        heard: list[int] = []
        front._exchange.on_vring_err = heard.append
        front.set_features(VERSION_1)
        front.add_mem_region(memory.region)
        set_up(front, memory)
        made.attachment.on_fault(0, VirtioError("broken"))
        wait_for(lambda: made.reports)
        front.get_queue_num()
        front.serve_back_channel(0.05)
        assert heard == []


def test_in_band_notifications_need_two_more(served: Served) -> None:
    made = served()
    front = Frontend(made.socket, timeout=5)
    front.set_owner()
    front.set_protocol_features(P.INBAND_NOTIFICATIONS.mask | P.BACKEND_REQ.mask)
    with pytest.raises(DeviceGoneError):
        front.get_features()
    assert "INBAND" in str(made.reports[0])


def test_a_ring_that_cannot_start(served: Served, memory: SharedMemory) -> None:
    made = served()
    with frontend(made) as front:
        front.set_features(VERSION_1)
        front.add_mem_region(memory.region)
        front.set_vring_num(0, 64)
        front.set_vring_addr(0, 8, 16, 24)
        with pytest.raises(RefusedError, match="KICK"):
            give(eventfd(), lambda fd: front.set_vring_kick(0, fd))
        assert not made.attachment.vrings[0].running


def test_dirty_log(served: Served, memory: SharedMemory) -> None:
    made = served()
    features = DEFAULT_PROTOCOL_FEATURES | P.LOG_SHMFD.mask
    log_all = 1 << 26
    with frontend(made, features) as front, SharedMemory(4096) as log:
        front.set_features(VERSION_1)
        front.add_mem_region(memory.region)
        front._exchange.ask(F.SET_LOG_BASE, log_payload(4096), (log.fd,))
        assert not made.attachment.memory.logging
        front.set_features(VERSION_1 | log_all)
        assert made.attachment.memory.logging
        made.attachment.memory.write(0x10000 + 0x5000, b"x")
        assert log.bytes[0x15 // 8] == 1 << 0x15 % 8
        with SharedMemory(MIB, guest_address=MIB * 2) as more:
            front.add_mem_region(more.region)
            assert made.attachment.memory.logging
        front.set_features(VERSION_1)
        assert not made.attachment.memory.logging
        give(eventfd(), lambda fd: front._call(F.SET_LOG_FD, None, (fd,)))


def log_payload(size: int):  # type: ignore[no-untyped-def]
    from virtio.vhost_user.payloads import Log

    return Log(size, 0)


def test_a_back_channel_that_is_no_socket(served: Served) -> None:
    made = served()
    with frontend(made) as front:
        with pytest.raises(RefusedError):
            give(eventfd(), lambda fd: front._call(F.SET_BACKEND_REQ_FD, None, (fd,)))
        front.open_back_channel()


def test_nonsense_on_the_back_channel_is_reported(served: Served) -> None:
    made = served()
    with frontend(made) as front:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            front._call(F.SET_BACKEND_REQ_FD, None, (theirs.fileno(),))
            ours.send(bytes(12))
            wait_for(lambda: made.reports)
        assert front.get_queue_num() == 2


def test_a_device_that_fails_ends_its_session_only(served: Served) -> None:
    made, other = served(), served()
    with frontend(made) as front, frontend(other) as second:
        made.attachment.read_config = lambda offset, size: 1 // 0
        with pytest.raises(DeviceGoneError):
            front.get_config(0, 4)
        assert "ZeroDivisionError" in str(made.reports[0])
        assert second.get_config(0, 4) == bytes(range(4))


def test_a_front_end_that_dies_anywhere(served: Served, memory: SharedMemory) -> None:
    """Cut off after every byte of a session: nothing leaks, nothing hangs."""
    kick = struct.pack("=IIIQ", F.SET_VRING_KICK, 1 | NEED_REPLY, 8, 0)
    table = struct.pack("=IIIII4Q", F.SET_MEM_TABLE, 1, 40, 1, 0, 0, MIB, 0, 0)
    for message, fd in ((kick, memory.fd), (table, memory.fd)):
        for length in range(1, len(message) + 1):
            made = served()
            socket.send_fds(made.socket, [message[:length]], [fd])
            made.socket.close()
            assert made.ended.wait(5)


def test_a_flood_of_requests_without_reading_answers(served: Served) -> None:
    made = served()
    made.socket.setblocking(False)
    question = struct.pack("=III", F.GET_FEATURES, 1, 0)
    sent = 0
    deadline = time.monotonic() + 3
    while sent < 100_000 and time.monotonic() < deadline:
        try:
            sent += made.socket.send(question * 100)
        except BlockingIOError:
            break
    assert made.session._channel.unsent <= 1
    got = 0
    made.socket.settimeout(2)
    while got < sent // 12:
        got += len(made.socket.recv(1 << 16)) / 20
    assert got == sent // 12
