"""A whole host on the wire, in Python: it answers ARP and ping at 192.0.2.1.

Give it to a guest as ``--link python:frame_handler:handle``; here a few frames stand for the guest.
"""

import virtio.network as network
from virtio.testing.wire import Wire

MAC, ADDRESS = bytes.fromhex("525400c0ffee"), bytes([192, 0, 2, 1])


def checksum(data: bytes) -> bytes:
    total = sum(int.from_bytes(data[i : i + 2].ljust(2, b"\0"), "big") for i in range(0, len(data), 2))
    total = (total & 0xFFFF) + (total >> 16)
    return (~(total + (total >> 16)) & 0xFFFF).to_bytes(2, "big")


def handle(frame: bytes, header: dict[str, int]) -> bytes | None:
    sender, kind, packet = frame[6:12], frame[12:14], frame[14:]
    if kind == b"\x08\x06" and packet[6:8] == b"\0\x01" and packet[24:28] == ADDRESS:
        reply = packet[:6] + b"\0\x02" + MAC + ADDRESS + packet[8:18]
    elif kind == b"\x08\x00" and packet[9] == 1 and packet[16:20] == ADDRESS and packet[20] == 8:
        echo = bytes(4) + packet[24 : int.from_bytes(packet[2:4], "big")]
        reply = packet[:12] + ADDRESS + packet[12:16] + echo[:2] + checksum(echo) + echo[4:]
    else:
        return None
    return sender + MAC + kind + reply


if __name__ == "__main__":
    link = network.PythonLink(handle)
    guest, guest_mac, guest_address = Wire(link), bytes.fromhex("525400000001"), bytes([192, 0, 2, 2])
    question = bytes.fromhex("0001080006040001") + guest_mac + guest_address + bytes(6) + ADDRESS
    ping = bytes.fromhex("450000200001000040010000") + guest_address + ADDRESS
    ping += b"\x08\0" + checksum(b"\x08\0\0\0\0\x01\0\x01ping") + b"\0\x01\0\x01ping"
    guest.send([b"\xff" * 6 + guest_mac + b"\x08\x06" + question, MAC + guest_mac + b"\x08\0" + ping])
    link.close()  # once it has handled what waits
    arp, echo = (seen.data for seen in guest.frames)
    print("192.0.2.1 is at", arp[22:28].hex(":"))
    print("ping answered:", echo[42:].decode(), "- checksum right:", checksum(echo[34:]) == bytes(2))
