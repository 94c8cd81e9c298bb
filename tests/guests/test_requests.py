"""What else a guest asks of its disks: discard, zeroes, the refusal to be written, a change of size.

One User-Mode Linux and one QEMU, each with a disk for every purpose: vda to trim, vdb for zeroes, vdc
read-only, vdd to be resized.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from virtio import vm
from virtio.vm import programs

pytestmark = pytest.mark.guest

MIB = 1 << 20
SECONDS = 10.0


@dataclass
class Machine:
    guest: vm.Guest
    services: dict[str, Any]

    def run(self, command: str) -> str:
        return self.guest.run(command, check=True).stdout

    def run_program(self, name: str, *arguments: str) -> None:
        """The host's program of that name: the shell of busybox prefers its own, which can do less."""
        path = programs.locate(name)
        assert path is not None
        self.guest.run([path, *arguments], check=True)


@pytest.fixture(scope="module", params=["uml", "qemu"])
def machine(
    request: pytest.FixtureRequest, serve_disk: Any, boot: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    fixed = tmp_path_factory.mktemp("fixed") / "disk.img"
    make_file_system(fixed)
    with ExitStack() as stack:
        services = {
            "trim": stack.enter_context(serve_disk(96 * MIB)),
            "zero": stack.enter_context(serve_disk(32 * MIB)),
            "fixed": stack.enter_context(serve_disk(image=fixed, read_only=True)),
            "sized": stack.enter_context(serve_disk(32 * MIB)),
        }
        devices = [vm.Blk(service.socket) for service in services.values()]
        files = ["mkfs.ext4", "fstrim", "blkdiscard"]
        guest = stack.enter_context(boot(request.param, devices, files=files))
        yield Machine(guest, services)
        assert [report for service in services.values() for report in service.reports] == []


def make_file_system(image: Path) -> None:
    with image.open("wb") as file:
        file.truncate(16 * MIB)
    subprocess.run([programs.require("mkfs.ext4", "e2fsprogs"), "-q", image], check=True)


def wait_for(machine: Machine, command: str, expected: str) -> None:
    deadline = time.monotonic() + SECONDS
    while (found := machine.run(command).strip()) != expected:
        assert time.monotonic() < deadline, f"{command} says {found}, not {expected}"
        time.sleep(0.05)


def test_fstrim_gives_space_back_on_the_host(machine: Machine) -> None:
    service = machine.services["trim"]
    machine.run("mkfs.ext4 -q -E nodiscard /dev/vda && mount /dev/vda /mnt")
    machine.run("dd if=/dev/urandom of=/mnt/big bs=1M count=40 2>/dev/null; echo kept >/mnt/kept; sync")
    full = service.used
    assert full >= 40 * MIB
    machine.run("rm /mnt/big && sync")
    machine.run_program("fstrim", "/mnt")
    assert service.used <= full - 38 * MIB
    assert service.image.stat().st_size == 96 * MIB
    machine.run("umount /mnt && mount /dev/vda /mnt && grep -q kept /mnt/kept && umount /mnt")


def test_blkdiscard_frees_and_zeroes_are_zeroes(machine: Machine) -> None:
    service = machine.services["zero"]
    machine.run("yes pattern | dd of=/dev/vdb bs=1M count=16 iflag=fullblock 2>/dev/null; sync")
    before = service.image.read_bytes()
    assert before.startswith(b"pattern\npattern\n")
    assert int(machine.run("cat /sys/block/vdb/queue/write_zeroes_max_bytes")) > 0
    machine.run_program("blkdiscard", "-z", "-o", str(2 * MIB), "-l", str(3 * MIB), "/dev/vdb")
    expected = before[: 2 * MIB] + bytes(3 * MIB) + before[5 * MIB :]
    assert service.image.read_bytes() == expected
    count = "dd if=/dev/vdb bs=1M skip=2 count=3 iflag=direct 2>/dev/null | tr -d '\\0' | wc -c"
    assert machine.run(count).strip() == "0"
    full = service.used
    machine.run_program("blkdiscard", "-f", "-o", str(8 * MIB), "-l", str(8 * MIB), "/dev/vdb")
    assert service.used <= full - 8 * MIB
    assert service.image.read_bytes()[: 8 * MIB] == expected[: 8 * MIB]


def test_a_read_only_disk_refuses_with_erofs(machine: Machine) -> None:
    service = machine.services["fixed"]
    before = service.image.read_bytes()
    assert machine.run("cat /sys/block/vdc/ro").strip() == "1"
    machine.run("mount -t ext4 /dev/vdc /mnt")
    touched = machine.guest.run("touch /mnt/new")
    machine.run("umount /mnt")
    assert touched.status != 0
    assert "Read-only file system" in touched.stderr
    assert machine.guest.run("echo x >/dev/vdc").status != 0
    assert service.image.read_bytes() == before


def test_a_disk_changes_its_size_under_the_guest(machine: Machine) -> None:
    service = machine.services["sized"]
    size = "cat /sys/block/vdd/size"
    assert machine.run(size).strip() == str(32 * MIB // 512)
    service.device.resize(48 * MIB)
    wait_for(machine, size, str(48 * MIB // 512))
    assert "[vdd] new size: 98304 512-byte logical blocks" in machine.run("dmesg")
    machine.run("echo the end | dd of=/dev/vdd bs=512 seek=98303 conv=sync oflag=direct 2>/dev/null")
    assert service.image.read_bytes()[-512:].startswith(b"the end\n")

    service.device.resize(16 * MIB)
    wait_for(machine, size, str(16 * MIB // 512))
    assert machine.guest.run("dd if=/dev/vdd of=/dev/null bs=512 skip=40000 count=1 2>&1").stdout
    assert machine.guest.run("dd if=/dev/zero of=/dev/vdd bs=1M seek=16 count=1").status != 0
    assert service.image.stat().st_size == 16 * MIB


def test_a_file_that_someone_else_enlarges(machine: Machine) -> None:
    service = machine.services["sized"]
    size = service.image.stat().st_size + 8 * MIB
    with service.image.open("r+b") as file:
        file.truncate(size)
    assert service.device.refresh() == size
    wait_for(machine, "cat /sys/block/vdd/size", str(size // 512))
