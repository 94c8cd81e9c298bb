"""iPXE, the boot ROM of QEMU's cards, whose driver knows the legacy interface: it boots Linux over our NIC.

The script comes by TFTP, as DHCP said; the kernel, which checks itself, by HTTP; its initial file system by
TFTP, and says what arrived. One guest; root for the tap.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from outside import Nic, Outside, serve_files

from virtio import vm
from virtio.devices.net import Net
from virtio.network import open_link
from virtio.spec.features import VERSION_1
from virtio.vhost_user.server import Server
from virtio.vm import kernels, programs
from virtio.vm.cpio import Archive

ROM = Path("/usr/lib/ipxe/qemu/efi-virtio.rom")
DNSMASQ = programs.locate("dnsmasq")

pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(
        os.geteuid() != 0
        or not os.path.exists("/dev/net/tun")
        or DNSMASQ is None
        or not ROM.exists()
        or not all(map(shutil.which, ("qemu-system-x86_64", "unshare", "nsenter", "ip"))),
        reason="needs root, /dev/net/tun, QEMU with ipxe-qemu, dnsmasq-base, unshare, nsenter and ip",
    ),
]

HERE, THERE = "203.0.113.1", "203.0.113.9"
PAYLOAD = random.Random(6).randbytes(300_001)
INIT = b"""#!/bin/busybox sh
set -- $(/bin/busybox sha256sum /payload)
echo "arrived: $1"
/bin/busybox poweroff -f
"""
SCRIPT = """#!ipxe
kernel http://{here}:{port}/vmlinuz initrd=initrd console=ttyS0 quiet panic=-1
initrd tftp://{here}/initrd
boot
"""


def write_initrd(path: Path) -> None:
    with path.open("wb") as stream:
        archive = Archive(stream)
        for directory in ("/dev", "/bin"):
            archive.directory(directory)
        archive.character_device("/dev/console", 5, 1)
        archive.file("/bin/busybox", Path(programs.require("busybox", "busybox-static")).read_bytes(), 0o755)
        archive.file("/init", INIT, 0o755)
        archive.file("/payload", PAYLOAD)
        archive.finish()


@contextmanager
def boot_server(outside: Outside, folder: Path) -> Iterator[None]:
    """DHCP and TFTP at the tap."""
    options = (
        "--conf-file=/dev/null --keep-in-foreground --log-facility=- --user=root --pid-file= --leasefile-ro "
        f"--port=0 --interface=t0 --bind-interfaces --dhcp-range={THERE},{THERE},1h --dhcp-boot=boot.ipxe "
        f"--enable-tftp --tftp-root={folder}"
    )
    command = ["nsenter", f"--net={outside.netns}", str(DNSMASQ), *options.split()]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        said: list[str] = []
        while "TFTP root" not in "".join(said):
            said.append(next(server.stderr, ""))
            assert said[-1], f"dnsmasq ended: {said}"
        yield
    finally:
        server.terminate()
        server.communicate()


def test_linux_is_booted_over_the_legacy_interface(tmp_path: Path) -> None:
    kernel = kernels.find_qemu().image.read_bytes()
    served = tmp_path / "served"
    served.mkdir()
    write_initrd(served / "initrd")
    with ExitStack() as exits:
        outside = exits.enter_context(closing(Outside(tmp_path)))
        link = exits.enter_context(closing(open_link(f"tap:t0?netns={outside.netns}&address={HERE}/24")))
        nic = exits.enter_context(Net(link))
        files = serve_files(outside.socket(), {"/vmlinuz": kernel}, (HERE, 0))
        exits.callback(files.close)
        (served / "boot.ipxe").write_text(SCRIPT.format(here=HERE, port=files.port))
        exits.enter_context(boot_server(outside, served))
        server = exits.enter_context(Server())
        server.add(nic, str(tmp_path / "s"))
        server.start()
        card = Nic(str(tmp_path / "s"), rom=True, options=",disable-modern=on,bootindex=0")
        with vm.Guest("qemu", [card], firmware=True) as guest:
            guest.wait_console("arrived: ", timeout=100)
            console = guest.wait_console("\n", timeout=10)
            (attachment,) = nic.attachments
            assert not attachment.features & 1 << VERSION_1
            guest.wait(20)
        assert f"arrived: {hashlib.sha256(PAYLOAD).hexdigest()}" in (console + guest.console)
        (sent,), (came,) = nic.nic.stats()["transmit"], nic.nic.stats()["receive"]
        assert came["bytes"] > len(kernel) + len(PAYLOAD)
        assert sent["frames"] > 1000
        for counters in (sent, came):
            assert not any(counters[reason] for reason in ("runt", "giant", "header", "offload"))
