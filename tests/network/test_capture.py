"""Captures: what is in the file, at any moment, and what is counted instead."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from virtio.errors import NetworkError
from virtio.network import Capture, CaptureLink, ImpairLink, LoopLink, NullLink, open_link, pcapng
from virtio.network.capture_file import Interface, Packet, Statistics, read
from virtio.testing.wire import Wire, put_frames

FRAME = bytes.fromhex("525400000002 525400000001 0800") + bytes(range(50))


def packets(path: Path) -> list[Packet]:
    with path.open("rb") as stream:
        return [record for record in read(stream, str(path)) if isinstance(record, Packet)]


def statistics(path: Path) -> list[Statistics]:
    with path.open("rb") as stream:
        return [record for record in read(stream, str(path)) if isinstance(record, Statistics)]


def wait_for(path: Path, size: int) -> None:
    end = time.monotonic() + 20
    while path.stat().st_size < size:
        assert time.monotonic() < end
        time.sleep(0.005)


HEADERS = [
    {},
    {"flags": 1, "csum_start": 34, "csum_offset": 16},
    {"flags": 1, "gso_type": 0x81, "hdr_len": 54, "gso_size": 1448, "csum_start": 34, "csum_offset": 16},
    {"gso_type": 5, "hdr_len": 42, "gso_size": 1400},
    {"gso_type": 77, "hdr_len": 65535, "gso_size": 65535},
    {"flags": 2},
]
FIELDS = ("flags", "gso_type", "hdr_len", "gso_size", "csum_start", "csum_offset")


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("length", [1, 2, 3, 4, 63, 1514, 65000])
@pytest.mark.parametrize("snaplen", [0, 61])
def test_blocks_are_those_of_the_format(
    tmp_path: Path, header: dict[str, int], length: int, snaplen: int
) -> None:
    path = tmp_path / "out.pcapng"
    link = CaptureLink(NullLink(), Capture(str(path), "nic", snaplen=snaplen))
    frame = bytes(i * 7 & 0xFF for i in range(length))
    put_frames(link, [frame, frame], queue=3, header=header, cut=(5, 1000))
    link.close()
    notes = pcapng.describe_offload(dict.fromkeys(FIELDS, 0) | header)
    expected = pcapng.section_header("pyvirtio") + pcapng.interface("nic", snaplen)
    for packet in packets(path):
        expected += pcapng.packet(
            frame[: snaplen or None],
            packet.time,
            direction=pcapng.Direction.OUT,
            queue=3,
            original=length,
            comments=[notes] if notes else [],
        )
    assert len(packets(path)) == 2
    data = path.read_bytes()
    assert data[: len(expected)] == expected
    assert statistics(path)[0].received == 2


def test_both_directions_and_their_order(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    link = open_link(f"loop:?pcap={path}")
    guest = Wire()
    link.connect(guest)
    before = time.time_ns()
    put_frames(link, [FRAME])
    put_frames(link, [FRAME[:30]])
    after = time.time_ns()
    link.disconnect()
    link.close()
    found = packets(path)  # an echo is taken before its call is, and stands behind it all the same
    assert [(p.direction.name, len(p.data)) for p in found] == [
        ("OUT", 64),
        ("IN", 64),
        ("OUT", 30),
        ("IN", 30),
    ]
    assert all(before <= p.time <= after for p in found)
    assert found[0].interface == Interface(1, 0, "loop:", 10**9)


def test_the_file_is_in_the_order_of_time(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    link = CaptureLink(LoopLink(), Capture(str(path), "nic", flush=0))
    link.connect(Wire())

    def call() -> None:
        for _ in range(5000):
            put_frames(link, [FRAME, FRAME])

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    link.close()
    times = [packet.time for packet in packets(path)]
    assert len(times) == 3 * 5000 * 4
    assert times == sorted(times)


def test_what_the_guest_did_not_take_is_not_recorded(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    link = open_link(f"loop:?pcap={path}")
    link.connect(Wire(room=2))
    put_frames(link, [FRAME] * 5)
    link.close()
    assert [p.direction.name for p in packets(path)].count("IN") == 2


def test_what_the_world_did_not_take_is_not_recorded(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    inner = ImpairLink(NullLink())
    inner.outwards.aim(Wire(room=3))
    link = CaptureLink(inner, Capture(str(path), "nic"))
    assert put_frames(link, [FRAME] * 5) == 3
    link.close()
    assert len(packets(path)) == 3


def test_what_finds_the_buffer_full_is_counted_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    capture = Capture(str(path), "nic", buffer=4096, flush=3600)
    link = CaptureLink(NullLink(), capture)
    put_frames(link, [bytes(1500)] * 64)
    assert link.stats()["capture_frames"] == 64
    dropped = link.stats()["capture_dropped"]
    assert dropped > 0
    link.close()
    assert len(packets(path)) == 64 - dropped
    assert (statistics(path)[-1].received, statistics(path)[-1].dropped) == (64, dropped)


def test_frames_reach_the_file_without_a_close(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    link = CaptureLink(NullLink(), Capture(str(path), "nic", flush=0.001))
    empty = path.stat().st_size
    put_frames(link, [FRAME])
    wait_for(path, empty + 1)
    assert [packet.data for packet in packets(path)] == [FRAME]
    link.close()


def test_half_a_buffer_does_not_wait(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    link = CaptureLink(NullLink(), Capture(str(path), "nic", flush=3600, buffer=65536))
    empty = path.stat().st_size
    put_frames(link, [bytes(1500)] * 12)
    wait_for(path, empty + 12 * 1500)
    assert len(packets(path)) == 12
    link.close()


KILLED = """
import sys
from virtio.network import Capture, CaptureLink, NullLink
from virtio.testing.wire import put_frames
link = CaptureLink(NullLink(), Capture(sys.argv[1], "nic", buffer=1 << 20))
print("ready", flush=True)
while True:
    put_frames(link, [bytes(range(200))] * 64)
"""


def test_a_capture_whose_writer_is_killed_is_valid(tmp_path: Path) -> None:
    for number in range(3):
        path = tmp_path / f"{number}.pcapng"
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        wait_for(path, 2_000_000 * (number + 1))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        data = path.read_bytes()
        whole = len(data) - tail(data)
        found = [record for record in read(io.BytesIO(data[:whole])) if isinstance(record, Packet)]
        assert len(found) > 1000
        assert {packet.data for packet in found} == {bytes(range(200))}
        path.unlink()


def tail(data: bytes) -> int:
    """Bytes of a block that was begun, after all whole blocks."""
    at = 0
    while at + 12 <= len(data) and at + int.from_bytes(data[at + 4 : at + 8], "little") <= len(data):
        at += int.from_bytes(data[at + 4 : at + 8], "little")
    return len(data) - at


def test_one_capture_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    first = Capture(str(path), "nic")
    with pytest.raises(NetworkError, match="another capture is being written"):
        Capture(str(path), "nic")
    first.close()
    Capture(str(path), "nic").close()


def test_an_old_file_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    path.write_bytes(bytes(100_000))
    Capture(str(path), "nic").close()
    assert packets(path) == []


def test_a_file_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"cannot capture to .*: No such file"):
        open_link(f"null:?pcap={tmp_path}/missing/out.pcapng")
    with pytest.raises(NetworkError, match="No space left"):
        Capture("/dev/full", "nic")


def test_a_disk_that_is_full_ends_the_capture_and_not_the_traffic(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "out.pcapng"
    code = (
        "import resource, signal, sys, logging; logging.basicConfig()\n"
        "from virtio.network import *\n"
        "from virtio.network.capture import *\n"
        "from virtio.testing.wire import put_frames\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "link = CaptureLink(NullLink(), Capture(sys.argv[1], 'nic', flush=0.001, buffer=1 << 20))\n"
        "import time\n"
        "while link.stats()['capture_dropped'] == 0:\n"
        "    assert put_frames(link, [bytes(1000)] * 10) == 10; time.sleep(0.01)\n"
        "stats = link.stats(); link.close(); print(stats['capture_frames'] - stats['capture_dropped'])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert f"ERROR:virtio.network:capture to {path} ended: File too large" in result.stderr
    assert result.stderr.count("ERROR") == 1
    assert len(packets(path)) == int(result.stdout)


def test_an_idle_capture_sleeps(tmp_path: Path) -> None:
    capture = Capture(str(tmp_path / "out.pcapng"), "nic", flush=0.001)
    put_frames(CaptureLink(NullLink(), capture), [FRAME])
    wait_for(tmp_path / "out.pcapng", 150)

    def switches() -> int:
        total = 0
        for task in Path("/proc/self/task").iterdir():
            if (task / "comm").read_text().startswith("virtio-capture"):
                text = (task / "status").read_text()
                total += int(text.split("\nvoluntary_ctxt_switches:")[1].split()[0])
        return total

    settled = switches()
    for _ in range(200):  # it is on its way to sleep
        time.sleep(0.005)
        if settled == (settled := switches()):
            break
    time.sleep(0.1)
    assert switches() == settled
    capture.close()


def run(program: str, *arguments: str) -> str:
    """What another program prints; without what is preloaded into this one."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    command = [program, *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=True
    ).stdout


def test_a_pipe_is_written_like_a_file(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE)
    link = open_link(f"null:?pcap={path}")
    put_frames(link, [FRAME] * 3)
    link.close()
    data, _ = reader.communicate(timeout=20)
    found = list(read(io.BytesIO(data)))
    assert [type(record) for record in found] == [Interface, Packet, Packet, Packet, Statistics]


def test_a_pipe_without_a_reader_ends_the_capture(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = subprocess.Popen(["head", "-c", "10", str(path)], stdout=subprocess.DEVNULL)
    link = CaptureLink(NullLink(), Capture(str(path), "nic", flush=0.001))
    reader.wait(20)
    end = time.monotonic() + 20
    while link.stats()["capture_dropped"] == 0:
        assert time.monotonic() < end
        assert put_frames(link, [FRAME]) == 1
        time.sleep(0.002)
    link.close()


@pytest.mark.peer
def test_tshark_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    link = CaptureLink(LoopLink(), Capture(str(path), "nic", snaplen=100))
    link.connect(Wire())
    put_frames(link, [FRAME], queue=2, header=HEADERS[2])
    put_frames(link, [bytes(300)])
    link.close()
    fields = ["frame.time_epoch", "frame.len", "frame.cap_len", "frame.packet_flags_direction"]
    fields += ["frame.interface_name", "frame.comment"]
    options = [word for field in fields for word in ("-e", field)]
    out = run("tshark", "-r", str(path), "-T", "fields", *options)
    own = packets(path)
    rows = [line.split("\t") for line in out.splitlines()]
    assert len(rows) == len(own) == 4
    for row, packet in zip(rows, own, strict=True):
        assert row[0] == f"{packet.time // 10**9}.{packet.time % 10**9:09d}"
        assert (int(row[1]), int(row[2])) == (packet.original, len(packet.data))
        assert int(row[3], 0) == packet.direction
        assert row[4] == "nic"
        assert row[5] == ",".join(packet.comments)
    assert {row[2] for row in rows} == {"64", "100"}
    assert "not segmented: tcpv4 with ECN, segments of 1448 bytes after 54 of headers" in out


@pytest.mark.peer
def test_capinfos_knows_the_drops(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    link = CaptureLink(NullLink(), Capture(str(path), "nic", buffer=4096))
    put_frames(link, [bytes(1000)] * 64)
    dropped = link.stats()["capture_dropped"]
    link.close()
    out = run("capinfos", "-M", str(path))
    assert "nanoseconds (9)" in out
    assert f"Number of packets:   {64 - dropped}\n" in out
    assert "Number of stat entries = 1" in out or "Number of stat entries = 2" in out
