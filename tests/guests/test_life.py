"""Guests that reboot or die: the service goes on. Six boots."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from virtio import vm
from virtio.drivers import Blk as BlkDriver
from virtio.vm.choice import Kind

pytestmark = pytest.mark.guest

KINDS: list[Kind] = ["uml", "qemu"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_reboot_finds_the_disk_again(kind: Kind, serve_disk: Any, boot: Any) -> None:
    with serve_disk() as service:
        with boot(kind, [vm.Blk(service.socket)], files=["mkfs.ext4"]) as guest:
            guest.run("mkfs.ext4 -q /dev/vda && mount /dev/vda /mnt && seq 1 50000 >/mnt/n", check=True)
            wanted = guest.run("sha256sum /mnt/n; umount /mnt", check=True).stdout
            guest.reboot()
            guest.run("mount /dev/vda /mnt", check=True)
            assert guest.run("sha256sum /mnt/n", check=True).stdout == wanted
            guest.run("echo after >/mnt/after && umount /mnt", check=True)
        assert b"after\n" in service.image.read_bytes()
        assert service.reports == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_guest_killed_in_the_middle_of_its_requests(
    kind: Kind, serve_disk: Any, boot: Any, tmp_path: Path
) -> None:
    with serve_disk() as service:
        with boot(kind, [vm.Blk(service.socket)]) as guest:
            guest.run("echo durable | dd of=/dev/vda conv=sync oflag=direct 2>/dev/null; sync", check=True)
            write = "dd if=/dev/urandom of=/dev/vda bs=256k seek=4 count=200 oflag=direct 2>/dev/null"
            guest.run(f"(while :; do {write}; done) >/dev/null 2>&1 & sleep 1", check=True)
            guest.kill()
        wait_idle(service)
        with BlkDriver.connect(service.socket) as disk:
            assert disk.read(0, 512).startswith(b"durable\n")
        with boot(kind, [vm.Blk(service.socket)]) as guest:
            assert guest.run("head -n 1 /dev/vda", check=True).stdout == "durable\n"
            guest.run("echo again | dd of=/dev/vda conv=sync oflag=direct 2>/dev/null", check=True)
        assert service.image.read_bytes().startswith(b"again\n")
        assert service.connections == 3


def wait_idle(service: Any) -> None:
    deadline = time.monotonic() + 10
    while service.server.services[0].busy:
        assert time.monotonic() < deadline, "the service did not let go of a front-end that died"
        time.sleep(0.02)
