"""``virtio io`` on a disk behind a real socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from virtio.cli.app import root, run
from virtio.cli.output import hexdump
from virtio.devices.blk import Blk as BlkDevice
from virtio.errors import VirtioError
from virtio.service import serving


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    address = str(tmp_path_factory.mktemp("io") / "disk.sock")
    with serving(BlkDevice("mem:8M", serial="io test"), address):
        yield address


def io(path: str, *arguments: str, stdin: bytes = b"") -> Result:
    result = CliRunner().invoke(root, ["io", path, *arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, (VirtioError, SystemExit)):
        raise result.exception
    return result


def test_what_is_written_is_read(path: str) -> None:
    data = bytes(range(256)) * 10
    written = io(path, "write", "--offset", "1000", stdin=data)
    assert written.exit_code == 0
    assert "2560 bytes written at 1000 and flushed" in written.stderr
    assert written.stdout_bytes == b""
    assert io(path, "read", "--offset", "1000", "--length", "2560").stdout_bytes == data
    assert io(path, "read", "--offset", "8190k").stdout_bytes == bytes(2048)


def test_a_hexdump(path: str) -> None:
    io(path, "write", "--offset", "1M", stdin=b"virtio!" + bytes(100))
    lines = io(path, "read", "--offset", "1M", "--length", "64", "--hex").stdout.splitlines()
    assert lines[0] == "00100000  76 69 72 74 69 6f 21 00  00 00 00 00 00 00 00 00  |virtio!.........|"
    assert lines[2:] == ["*"]


def test_the_ends_of_a_hexdump() -> None:
    assert hexdump(b"ab", 5) == "00000005  61 62" + " " * 45 + "|ab|"
    assert hexdump(bytes(48), 0).splitlines()[1:] == ["*"]


def test_ranges_become_zeros(path: str) -> None:
    io(path, "write", "--offset", "2M", stdin=b"x" * 8192)
    assert io(path, "zero", "--offset", "2M", "--length", "4k").exit_code == 0
    assert io(path, "discard", "--offset", "4M", "--length", "1M").exit_code == 0
    assert io(path, "flush").exit_code == 0
    assert io(path, "read", "--offset", "2M", "--length", "8k").stdout_bytes == bytes(4096) + b"x" * 4096


def test_what_the_disk_is(path: str) -> None:
    data = json.loads(io(path, "info", "--json").stdout)
    assert (data["serial"], data["capacity"], data["block_size"]) == ("io test", 8 << 20, 512)
    assert "FLUSH" in data["features"]
    assert "io test" in io(path, "info").stdout


def test_measuring(path: str) -> None:
    result = io(path, "bench", "--requests", "1000", "--read-percent", "50", "--verify", "--json")
    assert result.exit_code == 0
    data = json.loads(result.stdout)
    assert (data["requests"], data["errors"], data["mismatches"]) == (1000, 0, 0)
    assert data["p50_us"] <= data["p99_us"] <= data["max_us"]
    assert "iops" in io(path, "bench", "--requests", "10", "--sequential", "--poll").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("read", "--offset", "8M", "--length", "1"),
        ("read", "--offset", "much"),
        ("zero", "--offset", "1", "--length", "512"),
        ("bench", "--depth", "4000"),
        ("bench", "--read-percent", "101"),
        ("frobnicate",),
    ],
    ids=" ".join,
)
def test_mistakes_are_usage_errors(path: str, arguments: tuple[str, ...]) -> None:
    assert run(["io", path, *arguments]) == 2


def test_writing_past_the_end(path: str) -> None:
    result = io(path, "write", "--offset", "8191k", stdin=bytes(2048))
    assert isinstance(result.exception, VirtioError)
    assert "not on a disk" in str(result.exception)


def test_nobody_listens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["io", str(tmp_path / "nothing"), "info"]) == 4
    assert "cannot connect" in capsys.readouterr().err
