"""Boot a real Linux guest with a disk of ours, make a file system on it, and read a file back.

Needs a guest: Debian's user-mode-linux, or qemu-system-x86 with linux-image-cloud-amd64; and busybox-static,
e2fsprogs.
"""

import sys
from typing import Literal

from virtio import vm
from virtio.devices.blk import Blk
from virtio.serve import serving


def main(kind: Literal["qemu", "uml"] | None = None) -> None:
    guest = vm.Guest(kind, files=["mkfs.ext4"])
    path = str(guest.directory / "disk.sock")
    with Blk("mem:64M") as device, serving(device, path):
        guest.devices.append(vm.Blk(path))
        with guest:
            print("on", guest.reason)
            guest.run("mkfs.ext4 -q /dev/vda && mkdir -p /mnt && mount /dev/vda /mnt", check=True)
            guest.run("echo hello from the guest > /mnt/hello", check=True)
            print(guest.run("cat /mnt/hello", check=True).stdout, end="")
            guest.run("umount /mnt", check=True)


if __name__ == "__main__":
    main("qemu" if "--qemu" in sys.argv else "uml" if "--uml" in sys.argv else None)
