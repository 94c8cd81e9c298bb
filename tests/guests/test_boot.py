"""The firmware's own driver: SeaBIOS boots from the disk, and reads and writes it through INT 13h."""

from __future__ import annotations

import random
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from virtio import vm

pytestmark = pytest.mark.guest

# Real mode, loaded to 0x7c00 with the disk's number in dl:
#
#   start:  xor ax, ax; mov ds, ax; mov ss, ax; mov sp, 0x7c00; xor ebp, ebp
#           mov ax, 0x1000; mov es, ax; mov cx, 16
#   read:   push cx; mov si, dap; mov ah, 0x42; int 0x13; jc failed     64 sectors to 1000:0000
#           xor di, di; mov cx, 8192
#   add:    rol ebp, 1; add ebp, es:[di]; add di, 4; loop add
#           add word [lba], 64; pop cx; loop read
#           mov es:[0], ebp; mov word [sectors], 1
#           mov ax, 0x4300; mov si, dap; int 0x13; jc failed            the sum to the sector after them
#           mov cx, 8
#   digit:  rol ebp, 4; mov bx, bp; and bx, 15; mov al, [digits + bx]   the sum to the serial port
#           mov dx, 0x3f8; out dx, al; loop digit
#           mov al, 0x20
#   end:    mov dx, 0x501; out dx, al; hang: hlt; jmp hang              QEMU's exit status is al * 2 + 1
#   failed: mov al, 0x21; jmp end
#   digits: "0123456789abcdef"
#   dap:    16, 0; sectors: 64; buffer 1000:0000; lba: 1
BOOT_SECTOR = bytes.fromhex(
    "31c08ed88ed0bc007c6631edb800108ec0b9100051be807cb442cd13724e31ff"
    "b9002066d1c52666032d83c704e2f48306887c4059e2dd2666892e0000c70682"
    "7c0100b80043be807ccd13721fb9080066c1c50489eb83e30f8a87707cbaf803"
    "eee2edb020ba0105eef4ebfdb021ebf530313233343536373839616263646566"
    "10004000000000100100000000000000"
)
SECTORS = 16 * 64
EXIT = ["-device", "isa-debug-exit,iobase=0x501,iosize=1"]
STATUS_FINE = 0x20 * 2 + 1


def rotating_sum(data: bytes) -> int:
    total = 0
    for (word,) in struct.iter_unpack("<I", data):
        total = ((total << 1 | total >> 31) + word) & 0xFFFF_FFFF
    return total


@pytest.mark.parametrize("generation", ["transitional", "modern", "legacy"])
def test_firmware_boots_from_the_disk(generation: Any, serve_disk: Any, boot: Any, tmp_path: Path) -> None:
    content = random.Random(5).randbytes(SECTORS * 512)
    image = tmp_path / "boot.img"
    image.write_bytes(BOOT_SECTOR.ljust(510, b"\0") + b"\x55\xaa" + content + bytes(64 << 10))
    with serve_disk(image=image) as service:
        disk = vm.Blk(service.socket, generation=generation, boot=True)
        with boot("qemu", [disk], firmware=True, arguments=EXIT) as guest:
            assert guest.wait(40) == STATUS_FINE, guest.console
            expected = rotating_sum(content)
            assert re.search(f"{expected:08x}$", guest.console.rstrip())
        assert service.reports == []
        with image.open("rb") as file:
            file.seek((1 + SECTORS) * 512)
            assert file.read(4) == expected.to_bytes(4, "little")
