"""The acts of the guests: a real Linux makes a file system on the disk, and the host reads it back."""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path

from virtio import vm
from virtio.demo import readback
from virtio.demo.act import Act, binary_size
from virtio.demo.stage import Stage
from virtio.devices.blk import Blk as BlkDevice
from virtio.errors import DeviceError
from virtio.service import serving
from virtio.vm.choice import Kind

__all__ = ["guest_act"]

DISK_SIZE = 128 << 20
NAMES: dict[Kind, str] = {"uml": "User-Mode Linux", "qemu": "QEMU"}
DEVICE = "/dev/vda"
GUEST_SECONDS = 30.0

WRITE_FILES = """
set -e
mkdir -p /mnt/many/deep
seq 1 300000 >/mnt/numbers
head -c 12000000 /dev/urandom >/mnt/random
for n in 1 2 3 4 5 6 7 8; do seq $n 1000 >/mnt/many/deep/$n; done
ln -s numbers /mnt/link
cd /mnt && find . -type f ! -path './lost+found*' -exec sha256sum {} + | sort -k2
"""


def guest_act(stage: Stage, number: int, kind: Kind) -> Act:
    """Boot a guest of ``kind`` with the disk, and follow a file system from its making to the host."""
    act = Act(kind, f"{NAMES[kind]}: a Linux kernel's own driver on a disk served from Python")
    return act.play(stage, number, lambda act, stage: _perform(act, stage, kind))


def _perform(act: Act, stage: Stage, kind: Kind) -> None:
    debugfs = readback.require_debugfs()
    with tempfile.TemporaryDirectory(prefix="pyvirtio-demo-") as name:
        directory = Path(name)
        image, socket = directory / "disk.img", str(directory / "disk.sock")
        with image.open("wb") as file:
            file.truncate(DISK_SIZE)
        with BlkDevice(image) as device, serving(device, socket):
            began = time.monotonic()
            guest = vm.Guest(kind, [vm.Blk(socket)], files=["mkfs.ext4", "e2fsck"])
            stage.working("guest", f"booting {guest.reason}")
            with guest:
                _booted(act, stage, guest, time.monotonic() - began)
                sums = _use_disk(act, stage, guest)
        _compare(act, stage, image, sums, directory / "back", debugfs)


def _booted(act: Act, stage: Stage, guest: vm.Guest, seconds: float) -> None:
    release = guest.run("uname -r", check=True).stdout.strip()
    where = f", on {guest.reason}" if guest.kind == "qemu" else ""
    act.found(stage, "guest", f"Linux {release} up in {seconds:.1f} s{where}", boot_seconds=seconds)
    size = int(guest.run("cat /sys/block/vda/size", check=True).stdout) * 512
    driver = guest.run("basename $(readlink /sys/block/vda/device/driver)", check=True).stdout.strip()
    if size != DISK_SIZE:
        raise DeviceError(f"the guest sees a disk of {size} bytes, not of {DISK_SIZE}")
    act.found(stage, "found", f"{DEVICE}, {binary_size(size)}, by the kernel's driver {driver}")


def _use_disk(act: Act, stage: Stage, guest: vm.Guest) -> dict[str, str]:
    """Format, mount, write, unmount, check; the checksums of what was written, by path."""
    stage.working("formatted", f"mkfs.ext4 {DEVICE}")
    guest.run(f"mkfs.ext4 -q {DEVICE} && mount {DEVICE} /mnt", check=True, timeout=GUEST_SECONDS)
    kind = guest.run("grep ' /mnt ' /proc/mounts", check=True).stdout.split()[2]
    act.found(stage, "formatted", f"{kind}, mounted")
    stage.working("written", "writing files")
    sums = readback.parse_sums(guest.run(WRITE_FILES, check=True, timeout=GUEST_SECONDS).stdout)
    used = int(guest.run("du -sk /mnt", check=True).stdout.split()[0]) << 10
    guest.run("umount /mnt", check=True, timeout=GUEST_SECONDS)
    act.found(stage, "written", f"{len(sums)} files, {binary_size(used)}; unmounted", files=len(sums))
    stage.working("checked", f"e2fsck {DEVICE}")
    verdict = guest.run(f"e2fsck -fn {DEVICE}", check=True, timeout=GUEST_SECONDS).stdout
    summary = re.sub(r"^\S+: ", "", verdict.strip().splitlines()[-1])
    act.found(stage, "checked", f"e2fsck in the guest finds no error: {summary}")
    return sums


def _compare(act: Act, stage: Stage, image: Path, sums: dict[str, str], target: Path, debugfs: str) -> None:
    stage.working("read back", "reading the image on the host")
    found = readback.checksums(debugfs, image, target)
    if wrong := sorted(name for name in sums.keys() | found.keys() if sums.get(name) != found.get(name)):
        raise DeviceError(f"the guest and the host disagree about {', '.join(wrong)}")
    text = f"on the host, without mounting: all {len(sums)} checksums agree with the guest's"
    act.found(stage, "read back", text)
