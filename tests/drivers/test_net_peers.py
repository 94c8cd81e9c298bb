"""The network driver against others' devices: DPDK's net_vhost, and passt."""

from __future__ import annotations

import os
import shlex
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import testpmd
from virtio.drivers import Frame, Net, NetLoadOptions, run_net_load
from virtio.drivers.net.load import sample_frame
from virtio.spec import features as bits
from virtio.spec import net

pytestmark = pytest.mark.peer

Start = Callable[..., testpmd.Testpmd]
MAC = bytes.fromhex("525400abcdef")


@pytest.fixture
def dpdk(tmp_path: Path) -> Iterator[Start]:
    """A port of DPDK's behind ``tmp_path / "net.sock"``: ``dpdk(mode, queues=..., options=...)``."""
    program = testpmd.command_line()
    if program is None:
        pytest.skip(
            f"{testpmd.PROGRAM} is not installed, and {testpmd.VARIABLE} does not say how to start it"
        )
    running: list[testpmd.Testpmd] = []

    def start(mode: str, *, queues: int = 1, size: int = 64) -> testpmd.Testpmd:
        vdev = f"net_vhost0,iface={tmp_path}/net.sock,queues={queues}"
        # One core is enough for what is right; what is fast, `bench/net.py` measures.
        running.append(testpmd.Testpmd(program, [vdev], mode=mode, queues=queues, size=size))
        running[-1].do("start")
        return running[-1]

    yield start
    for each in running:
        each.close()


def connect(folder: Path, **options: Any) -> Net:
    return Net.connect(str(folder / "net.sock"), mac=MAC, timeout=10.0, **options)


def receive(nic: Net, count: int, **options: Any) -> list[Frame]:
    frames: list[Frame] = []
    while len(frames) < count:
        came = nic.receive(count - len(frames), timeout=5.0, **options)
        assert came, f"{len(frames)} of {count} frames came"
        frames += came
    return frames


def numbered(count: int, size: int) -> list[bytes]:
    return [sample_frame(size, MAC)[:-4] + number.to_bytes(4, "big") for number in range(count)]


@pytest.mark.parametrize("mergeable", [True, False], ids=["mergeable", "single"])
def test_dpdk_sends_frames_back(dpdk: Start, tmp_path: Path, packed: bool, mergeable: bool) -> None:
    dpdk("io")
    without = 0 if mergeable else bits.mask(net.F_MRG_RXBUF)
    with connect(tmp_path, packed=packed, without=without) as nic:
        assert nic.has(bits.RING_PACKED) is packed
        assert nic.has(net.F_MRG_RXBUF) is mergeable
        for size in (60, 64, 577, 1500, 1514):
            for _ in range(40):  # round the ring a few times
                frames = numbered(50, size)
                assert nic.send(frames) == 50
                assert [bytes(frame) for frame in receive(nic, 50)] == frames


def test_a_frame_of_dpdk_spans_small_buffers(dpdk: Start, tmp_path: Path, packed: bool) -> None:
    dpdk("io")
    with connect(tmp_path, packed=packed, buffer_size=512) as nic:
        for _ in range(100):
            frames = numbered(10, 1500)
            nic.send(frames)
            assert [bytes(frame) for frame in receive(nic, 10)] == frames
        assert nic.stats()["received_copied"] == 1000


def test_dpdk_floods(dpdk: Start, tmp_path: Path, packed: bool) -> None:
    peer = dpdk("txonly", size=200)
    with connect(tmp_path, packed=packed) as nic:
        before = time.monotonic()
        frames = 0
        while time.monotonic() < before + 0.3:
            came = nic.receive(timeout=5.0)
            assert {len(frame) for frame in came} == {200}
            frames += len(came)
        assert frames > 1000
        peer.do("stop")


def test_dpdk_counts_what_is_sent(dpdk: Start, tmp_path: Path, packed: bool) -> None:
    peer = dpdk("rxonly")
    with connect(tmp_path, packed=packed) as nic:
        for _ in range(20):
            nic.send(numbered(500, 64))
        nic.flush()
    assert peer.counts()[0] == 10000


def test_several_pairs_of_dpdk(dpdk: Start, tmp_path: Path, packed: bool) -> None:
    """What goes out by a pair comes back by the same."""
    dpdk("io", queues=3)
    with connect(tmp_path, packed=packed, num_queues=3) as nic:
        for turn in range(30):
            pair = turn % 3
            frames = numbered(20, 64 + turn)
            nic.send(frames, pair=pair)
            assert [bytes(frame) for frame in receive(nic, 20, pair=pair)] == frames


def test_the_generator_with_dpdk(dpdk: Start, tmp_path: Path, packed: bool) -> None:
    """Echoed at both ends, a number of frames goes round and round."""
    dpdk("io")
    with connect(tmp_path, packed=packed) as nic:
        result = run_net_load(nic, NetLoadOptions(echo=True, inject=64, seconds=0.3))
        assert result.received > 1000
        assert result.dropped == 0
        assert 0 <= result.sent - result.received <= 64


def test_dpdk_may_be_left_and_met_again(dpdk: Start, tmp_path: Path, packed: bool) -> None:
    dpdk("io")
    for _ in range(3):
        with connect(tmp_path, packed=packed) as nic:
            nic.send(numbered(10, 64))
            assert [bytes(frame) for frame in receive(nic, 10)] == numbered(10, 64)


@pytest.fixture
def passt(tmp_path: Path) -> Iterator[str]:
    """Passt as a vhost-user device: its socket."""
    program = shlex.split(os.environ.get("VIRTIO_PASST") or shutil.which("passt") or "")
    if not program:
        pytest.skip("passt is not installed, and VIRTIO_PASST does not say how to start it")
    text = subprocess.run([*program, "--help"], capture_output=True, text=True, check=False)
    if "--vhost-user" not in text.stdout + text.stderr:
        pytest.skip("this passt knows no --vhost-user, as that of Debian 12: it came in 2025")
    path = f"{tmp_path}/net.sock"
    process = subprocess.Popen([*program, "--vhost-user", "--foreground", "--socket", path])
    deadline = time.monotonic() + 10
    while not Path(path).exists():
        assert process.poll() is None, "passt did not start"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield path
    process.kill()
    process.wait()


def test_passt_offers_an_address(passt: str) -> None:
    """A DHCP discover and the offer to it (RFC 2131)."""
    with Net.connect(passt, mac=MAC, timeout=10.0) as nic:
        nic.send([discover(MAC, 0x12345678)])
        for _ in range(100):
            for frame in nic.receive(timeout=5.0):
                if found := offer(bytes(frame)):
                    assert found["transaction"] == 0x12345678
                    assert found["client"] == MAC
                    assert found["address"] != bytes(4)
                    return
    raise AssertionError("no offer")


def discover(mac: bytes, transaction: int) -> bytes:
    options = b"\x63\x82\x53\x63" + b"\x35\x01\x01" + b"\x37\x03\x01\x03\x06" + b"\xff"
    body = struct.pack("!4BIHH16x", 1, 1, 6, 0, transaction, 0, 0x8000) + mac.ljust(16, b"\0") + bytes(192)
    body += options.ljust(64, b"\0")
    udp = struct.pack("!4H", 68, 67, 8 + len(body), 0)
    head = bytearray(
        struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(body), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    )
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head[10:12] = (~((total & 0xFFFF) + (total >> 16)) & 0xFFFF).to_bytes(2, "big")
    return b"\xff" * 6 + mac + b"\x08\x00" + bytes(head) + udp + body


def offer(frame: bytes) -> dict[str, Any] | None:
    """What is in a DHCP offer; None for other frames."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 17:
        return None
    udp = 14 + (frame[14] & 15) * 4
    if frame[udp + 2 : udp + 4] != (68).to_bytes(2, "big"):
        return None
    body = frame[udp + 8 :]
    assert b"\x35\x01\x02" in body[236:], "not an offer"
    return {
        "transaction": int.from_bytes(body[4:8], "big"),
        "address": body[16:20],
        "client": body[28:34],
    }
