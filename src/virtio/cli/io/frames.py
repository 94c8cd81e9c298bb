"""Frames as lines, as JSON and in files."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import click

from virtio.cli.output import hexdump

if TYPE_CHECKING:
    from virtio.drivers import Frame

__all__ = ["FramePrinter", "read_frames"]

HEADER_FIELDS = ("flags", "gso_type", "hdr_len", "gso_size", "csum_start", "csum_offset")


class FramePrinter:
    """Prints frames on standard output as they come, and records them in ``file``, a pcapng.

    A line for each, ``as_json`` an object in a line; ``dump`` adds the bytes.
    """

    def __init__(self, *, as_json: bool = False, dump: bool = False, file: BinaryIO | None = None) -> None:
        self.frames = 0
        self.bytes = 0
        self._as_json = as_json
        self._dump = dump
        self._file = file
        if file is not None:
            from virtio.network import pcapng

            file.write(pcapng.section_header("pyvirtio") + pcapng.interface("nic"))

    @classmethod
    @contextmanager
    def to(cls, path: str | None, **settings: bool) -> Iterator[FramePrinter]:
        """One that writes a file, if there is a path."""
        with ExitStack() as stack:
            file = stack.enter_context(open(path, "wb")) if path else None
            yield cls(file=file, **settings)

    def show(self, frame: Frame) -> None:
        """A frame that came now."""
        from virtio.network import pcapng

        now, data = time.time_ns(), bytes(frame)
        header = frame.header
        note = pcapng.describe_offload({name: getattr(header, name) for name in HEADER_FIELDS})
        if self._file is not None:
            comments = [note] if note else []
            direction = pcapng.Direction.IN
            self._file.write(
                pcapng.packet(data, now, direction=direction, queue=frame.pair, comments=comments)
            )
            self._file.flush()
        self._print(data, now, frame.pair, note)
        self.frames += 1
        self.bytes += len(data)

    def _print(self, data: bytes, now: int, pair: int, note: str) -> None:
        from virtio.network.summary import summarize

        said = summarize(data)
        if self._as_json:
            import json

            about: dict[str, Any] = {"time": now / 1e9, "length": len(data), "pair": pair, **said._asdict()}
            click.echo(json.dumps({**about, "unfinished": note, "data": data.hex()}))
        else:
            clock = time.strftime("%H:%M:%S", time.localtime(now // 10**9))
            way = f"{said.source} > {said.target}" if said.source else "-"
            tags = "".join(f"vlan {vlan}, " for vlan in said.vlans)
            unfinished = f" ({note})" if note else ""
            stamp = f"{clock}.{now // 1000 % 10**6:06}"
            click.echo(f"{stamp} {len(data):5}  {way}  {tags}{said.type}  {said.text}{unfinished}")
            if self._dump:
                click.echo(hexdump(data, 0))
        sys.stdout.flush()


def read_frames(file: IO[bytes], name: str) -> list[bytes]:
    """The Ethernet frames of a capture, pcap or pcapng, in their order. Raises CaptureFileError."""
    from virtio.errors import CaptureFileError
    from virtio.network.capture_file import Packet, read
    from virtio.network.pcapng import ETHERNET

    packets = [record for record in read(file, name) if isinstance(record, Packet)]  # type: ignore[arg-type]
    frames = [packet.data for packet in packets if packet.interface.link_type == ETHERNET]
    if not frames:
        raise CaptureFileError(f"{name} holds no Ethernet frame")
    return frames
