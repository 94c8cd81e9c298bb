"""A switch that is slow and obviously right: what the compiled one is compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace

from virtio.network.switch import PortSettings

Header = dict[str, int]
Delivery = tuple[bytes, Header]


@dataclass(frozen=True)
class Parsed:
    to: bytes
    by: bytes
    tci: int | None  # of the outermost 802.1Q tag
    rest: bytes  # from the EtherType after that tag

    @classmethod
    def of(cls, frame: bytes) -> Parsed | None:
        if len(frame) < 14:
            return None
        if frame[12:14] != b"\x81\x00":
            return cls(frame[:6], frame[6:12], None, frame[12:])
        if len(frame) < 18:
            return None
        return cls(frame[:6], frame[6:12], int.from_bytes(frame[14:16], "big"), frame[16:])

    @property
    def hides_a_tag(self) -> bool:
        return self.rest[:2] == b"\x81\x00"

    def __bytes__(self) -> bytes:
        tag = b"" if self.tci is None else b"\x81\x00" + self.tci.to_bytes(2, "big")
        return self.to + self.by + tag + self.rest


def is_plain(port: PortSettings) -> bool:
    return port.vlan is None and port.trunk is None


def vlan_in(port: PortSettings, frame: Parsed) -> tuple[int, bool] | None:
    """The VLAN, and whether the frame is opaque; None: not taken."""
    named = 0 if frame.tci is None else frame.tci & 0xFFF
    if is_plain(port):
        return 1, named != 0
    if named == 0:
        native = port.vlan if port.vlan is not None else port.native
        hidden = frame.tci is not None and frame.hides_a_tag
        return None if native is None or hidden else (native, False)
    return (named, False) if port.trunk is not None and named in port.members else None


def frame_out(
    port: PortSettings, frame: Parsed, vlan: int, opaque: bool, entered_plain: bool
) -> Parsed | None:
    """What leaves by a port; None: nothing."""
    if opaque:
        return frame if is_plain(port) else None
    if vlan not in port.members:
        return None
    if is_plain(port) and entered_plain:
        return frame
    if port.trunk is not None and vlan != port.native:
        return replace(frame, tci=((frame.tci or 0) & 0xF000) | vlan)
    if port.trunk is not None and frame.hides_a_tag:
        return None
    return replace(frame, tci=None)


def shifted(header: Header, by: int) -> Header | None:
    moved = dict(header)
    if by == 0:
        return moved
    if header["flags"] & 1:
        moved["csum_start"] += by
    if header["hdr_len"] and (header["flags"] & 1 or header["gso_type"]):
        moved["hdr_len"] += by
    fine = all(14 <= moved[name] <= 65535 for name in moved if moved[name] != header[name])
    return moved if fine else None


class ModelSwitch:
    def __init__(self, ageing: int) -> None:
        self.ageing = ageing
        self.now = 0
        self.ports: dict[str, PortSettings] = {}
        self.table: dict[tuple[int, bytes], tuple[str, int]] = {}

    def remove(self, name: str) -> None:
        del self.ports[name]
        self.table = {key: value for key, value in self.table.items() if value[0] != name}

    def stations(self) -> set[tuple[int, str, str, int]]:
        return {
            (vlan, by.hex(":"), port, self.now - seen)
            for (vlan, by), (port, seen) in self.table.items()
            if self.now - seen <= self.ageing
        }

    def where(self, vlan: int, address: bytes) -> str | None:
        port, seen = self.table.get((vlan, address), ("", 0))
        return port if port and self.now - seen <= self.ageing else None

    def put(self, name: str, raw: bytes, header: Header) -> list[tuple[str, Delivery]]:
        """Each port that gets something, and what."""
        port = self.ports[name]
        if port.mirror:
            return []
        out = [(monitor, (raw, header)) for monitor in self.watching(name)]
        frame = Parsed.of(raw)
        if frame is None or frame.by[0] & 1 or not any(frame.by):
            return out
        if frame.to[:5] == bytes.fromhex("0180c20000") and frame.to[5] < 16:
            return out
        entered = vlan_in(port, frame)
        if entered is None:
            return out
        vlan, opaque = entered
        self.table[vlan, frame.by] = (name, self.now)
        for egress in self.receivers(name, vlan, frame.to):
            leaving = frame_out(self.ports[egress], frame, vlan, opaque, is_plain(port))
            if leaving is None:
                continue
            moved = shifted(header, len(bytes(leaving)) - len(raw))
            if moved is None:
                continue
            out.append((egress, (bytes(leaving), moved)))
            watching = [monitor for monitor in self.watching(egress) if monitor not in self.watching(name)]
            out += [(monitor, (bytes(leaving), moved)) for monitor in watching]
        return out

    def watching(self, name: str) -> list[str]:
        return [other for other, port in self.ports.items() if name in port.mirror or "all" in port.mirror]

    def receivers(self, name: str, vlan: int, to: bytes) -> list[str]:
        known = None if to[0] & 1 else self.where(vlan, to)
        if known is not None:
            both = self.ports[name].isolated and self.ports[known].isolated
            return [] if known == name or both else [known]
        return [
            other
            for other, port in self.ports.items()
            if other != name and not port.mirror and not (port.isolated and self.ports[name].isolated)
        ]
