"""The network driver with a device of ours, over a real socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from packets import Packet

from virtio.devices.net.device import Net as Device
from virtio.drivers import Frame, Net, NetLoadOptions, run_net_load
from virtio.drivers.net.load import sample_frame
from virtio.drivers.net.requests import RequestChecker
from virtio.errors import (
    DeviceGoneError,
    FeatureError,
    UnsupportedRequestError,
    UsageError,
)
from virtio.network.offload import finish
from virtio.service import serving
from virtio.spec import features as bits
from virtio.spec import net

MAC = bytes.fromhex("525400123456")


@contextmanager
def looped(path: Path, pairs: int = 1, **options: Any) -> Iterator[Net]:
    """A NIC whose frames come back."""
    address = str(path / "net.sock")
    with (
        Device("loop:", num_queues=pairs, mac=MAC) as device,
        serving(device, address),
        Net.connect(address, num_queues=pairs, timeout=10.0, **options) as nic,
    ):
        yield nic


def receive(nic: Net, count: int) -> list[Frame]:
    frames: list[Frame] = []
    while len(frames) < count:
        came = nic.receive(timeout=5.0)
        assert came, f"{len(frames)} of {count} frames came"
        frames += came
    return frames


def numbered(count: int, size: int = 64) -> list[bytes]:
    return [sample_frame(size, MAC)[:-4] + number.to_bytes(4, "big") for number in range(count)]


@pytest.mark.parametrize("mergeable", [True, False])
def test_frames_come_back_in_order(tmp_path: Path, packed: bool, mergeable: bool) -> None:
    without = 0 if mergeable else bits.mask(net.F_MRG_RXBUF)
    with looped(tmp_path, packed=packed, without=without) as nic:
        assert nic.has(bits.RING_PACKED) is packed
        for _ in range(20):
            frames = numbered(100)
            assert nic.send(frames) == 100
            assert [bytes(frame) for frame in receive(nic, 100)] == frames
        assert nic.stats()["received"] == nic.stats()["sent"] == 2000


def test_what_the_nic_is(tmp_path: Path) -> None:
    with looped(tmp_path) as nic:
        assert nic.mac == "52:54:00:12:34:56"
        assert nic.link_up
        assert nic.max_pairs == 1
        assert nic.has(net.F_HOST_TSO4)


def test_a_frame_goes_back_to_the_device_with_its_last_view(tmp_path: Path, packed: bool) -> None:
    with looped(tmp_path, packed=packed, queue_size=16) as nic:
        receiver = nic.pairs[0].receiver
        nic.send(numbered(4))
        frames = receive(nic, 4)
        view = frames[0].data
        assert receiver.lent == 4
        frames.clear()
        assert receiver.lent == 1
        assert view[-1] == 0
        view.release()
        assert receiver.lent == 0


def test_frames_that_are_kept_do_not_stop_the_queue(tmp_path: Path, packed: bool) -> None:
    with looped(tmp_path, packed=packed, queue_size=16) as nic:
        kept = []
        for frame in numbered(64):
            nic.send([frame])
            kept += receive(nic, 1)
        assert [bytes(frame) for frame in kept] == numbered(64)
        assert nic.pairs[0].receiver.lent == 8
        assert nic.stats()["received_copied"] == 56
    assert bytes(kept[0]) == numbered(1)[0]


def test_a_large_frame_takes_several_buffers(tmp_path: Path, packed: bool) -> None:
    """Sent in slots of 2048 bytes and, with MRG_RXBUF, received in as many."""
    large = bytes(MAC + MAC + b"\x08\x00") + bytes(range(256)) * 30
    with looped(tmp_path, packed=packed) as nic:
        for _ in range(50):
            nic.send([large])
            assert bytes(receive(nic, 1)[0]) == large


def test_a_received_frame_is_writable_and_can_be_sent(tmp_path: Path) -> None:
    with looped(tmp_path) as nic:
        nic.send(numbered(1))
        (frame,) = receive(nic, 1)
        frame.data[40:46] = b"\xfe" * 6
        nic.send([frame])
        (again,) = receive(nic, 1)
        assert bytes(again.data[40:46]) == b"\xfe" * 6
        assert len(again) == 64


def test_offload_requests_are_checked(tmp_path: Path) -> None:
    good = net.Hdr(flags=net.HDR_F_NEEDS_CSUM, csum_start=34, csum_offset=6)
    with looped(tmp_path) as nic:
        assert nic.send([(sample_frame(64, MAC), good)]) == 1
        receive(nic, 1)
        for bad in (
            net.Hdr(flags=net.HDR_F_DATA_VALID),
            net.Hdr(flags=net.HDR_F_NEEDS_CSUM, csum_start=60, csum_offset=6),
            net.Hdr(gso_type=99),
            net.Hdr(flags=net.HDR_F_NEEDS_CSUM, gso_type=net.HDR_GSO_TCPV4),
            net.Hdr(gso_type=net.HDR_GSO_TCPV4, gso_size=500),
        ):
            with pytest.raises(UsageError):
                nic.send([(sample_frame(64, MAC), bad)])
        with pytest.raises(UsageError):
            nic.send([(sample_frame(64, MAC), b"no header")])  # type: ignore[list-item]


def test_offloads_that_were_not_negotiated_are_refused(tmp_path: Path) -> None:
    with looped(tmp_path, without=bits.mask(net.F_CSUM)) as nic:
        assert not nic.has(net.F_HOST_TSO4)
        header = net.Hdr(flags=net.HDR_F_NEEDS_CSUM, csum_start=34, csum_offset=6)
        with pytest.raises(UnsupportedRequestError, match="CSUM"):
            nic.send([(sample_frame(64, MAC), header)])


@pytest.mark.parametrize(
    "whole",
    [
        Packet(bytes(1000)),
        Packet(bytes(1000), six=True, tags=2),
        Packet(bytes(1000), tcp_options=bytes.fromhex("0101080a 00000001 00000002")),
    ],
    ids=["v4", "v6", "v4, timestamps"],
)
def test_a_joined_frame_can_be_sent_on(tmp_path: Path, whole: Packet) -> None:
    kind = net.HDR_GSO_TCPV6 if whole.six else net.HDR_GSO_TCPV4
    cut = {"flags": 1, "gso_type": kind, "gso_size": 300, "csum_start": whole.transport_at, "csum_offset": 16}
    with looped(tmp_path) as nic:
        nic.send([MAC + segment[6:] for segment in finish(whole.frame(), **cut)])
        (joined,) = receive(nic, 1)
        assert joined.header.flags == net.HDR_F_NEEDS_CSUM | net.HDR_F_RSC_INFO
        assert (joined.header.csum_start, joined.header.csum_offset) == (4, 0)
        request = RequestChecker(nic.features, 12)(joined, len(joined))
        assert request is not None
        asked = net.Hdr.unpack(request.ljust(net.Hdr.SIZE, b"\0"))
        assert {name: getattr(asked, name) for name in cut} == cut
        nic.send([joined])
        (again,) = receive(nic, 1)
        assert (bytes(again), again.header) == (bytes(joined), joined.header)


@pytest.mark.parametrize("length", [0, 13, 65551])
def test_what_is_no_frame_is_refused_after_those_before_it(tmp_path: Path, length: int) -> None:
    with looped(tmp_path) as nic:
        with pytest.raises(UsageError, match=f"{length} bytes"):
            nic.send([*numbered(1), bytes(length)])
        assert [bytes(frame) for frame in receive(nic, 1)] == numbered(1)


def test_several_pairs(tmp_path: Path, packed: bool) -> None:
    with looped(tmp_path, pairs=2, packed=packed) as nic:
        assert nic.max_pairs == 2
        for pair in (0, 1):
            nic.send(numbered(8), pair=pair)
            assert len(receive(nic, 8)) == 8
        nic.set_pairs(1)
        nic.send(numbered(8))
        assert {frame.pair for frame in receive(nic, 8)} == {0}
        with pytest.raises(UsageError):
            nic.set_pairs(3)
        with pytest.raises(UsageError):
            nic.send(numbered(1), pair=2)


def test_more_pairs_than_there_are(tmp_path: Path) -> None:
    address = str(tmp_path / "net.sock")
    with Device("loop:") as device, serving(device, address), pytest.raises(UsageError):
        Net.connect(address, num_queues=2)


def test_commands_without_a_control_queue(tmp_path: Path) -> None:
    with looped(tmp_path, control_queue=False) as nic:
        for command in (
            lambda: nic.set_mac("52:54:00:00:00:01"),
            lambda: nic.set_rx_mode(promisc=True),
            lambda: nic.set_vlan(5),
        ):
            with pytest.raises(UnsupportedRequestError, match="not negotiated"):
                command()
        with pytest.raises(UsageError):
            nic.set_rx_mode(sideways=True)


def test_the_legacy_header(tmp_path: Path) -> None:
    with looped(tmp_path, legacy=True, without=bits.mask(net.F_MRG_RXBUF)) as nic:
        assert nic.pairs[0].receiver.header_size == 10
        nic.send(numbered(40))
        assert [bytes(frame) for frame in receive(nic, 40)] == numbered(40)


def test_a_legacy_driver_has_no_packed_rings(tmp_path: Path) -> None:
    with pytest.raises(FeatureError), looped(tmp_path, legacy=True, packed=True):
        pass


def test_receiving_waits_and_gives_up(tmp_path: Path) -> None:
    with looped(tmp_path) as nic:
        assert nic.receive(timeout=0.01) == []
        threading.Timer(0.05, nic.send, [numbered(1)]).start()
        assert len(nic.receive(timeout=5.0)) == 1


def test_closing_wakes_who_waits(tmp_path: Path) -> None:
    with looped(tmp_path) as nic:
        threading.Timer(0.05, nic.close).start()
        with pytest.raises(DeviceGoneError):
            nic.receive(timeout=None)


def test_frames_with_asyncio(tmp_path: Path, packed: bool) -> None:
    async def collect(nic: Net) -> list[bytes]:
        found = []
        nic.send(numbered(3))
        async for frame in nic.frames():
            found.append(bytes(frame))
            if len(found) == 3:
                nic.send(numbered(2))
            if len(found) == 5:
                return found
        return found

    with looped(tmp_path, packed=packed) as nic:
        found = asyncio.run(asyncio.wait_for(collect(nic), 10))
        assert found == numbered(3) + numbered(2)


def test_restarting(tmp_path: Path) -> None:
    with looped(tmp_path) as nic:
        nic.send(numbered(1))
        (kept,) = receive(nic, 1)
        nic.restart()
        nic.send(numbered(20))
        assert len(receive(nic, 20)) == 20
        assert bytes(kept) == numbered(1)[0]


@pytest.mark.parametrize("polling", [True, False])
def test_a_flood_that_comes_back(tmp_path: Path, packed: bool, polling: bool) -> None:
    with looped(tmp_path, packed=packed) as nic:
        options = NetLoadOptions(
            send=True, receive=True, frames=5000, seconds=0.5, polling=polling, stamp=True
        )
        result = run_net_load(nic, options)
        assert result.sent == 5000
        assert 0 < result.received <= 5000
        assert result.received_bytes == 64 * result.received
        while nic.receive(timeout=0.05):  # what came after the generator ended
            pass
        nic.send(numbered(10))
        assert [bytes(frame) for frame in receive(nic, 10)] == numbered(10)


def test_an_echo(tmp_path: Path, packed: bool) -> None:
    with looped(tmp_path, packed=packed) as nic:
        options = NetLoadOptions(echo=True, inject=16, seconds=0.2, swap_addresses=True)
        result = run_net_load(nic, options)
        assert result.sent > 16
        assert result.received > 16
        while nic.receive(timeout=0.05):
            pass
        nic.send(numbered(300))
        assert len(receive(nic, 250)) >= 250


@pytest.mark.parametrize(
    "options",
    [
        NetLoadOptions(),
        NetLoadOptions(send=True, echo=True),
        NetLoadOptions(send=True, size=10),
        NetLoadOptions(send=True, size=4000),
    ],
)
def test_loads_that_cannot_be(tmp_path: Path, options: NetLoadOptions) -> None:
    with looped(tmp_path) as nic, pytest.raises(UsageError):
        run_net_load(nic, options)
