"""What to write to attach a device to each hypervisor, ready to paste."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["FRONTENDS", "Attachable", "lines_for"]

MEMORY = "512M"
NET, BLK, RNG = 1, 2, 4
USUAL_RING = 256  # descriptors in a queue of QEMU's NIC unless told otherwise; 1024 at most


@dataclass(frozen=True)
class Attachable:
    """A device behind the vhost-user socket at the path ``socket``.

    ``num_queues`` of a NIC are pairs, and ``mac`` is its address if it has one; ``config_size`` is in bytes.
    """

    device_id: int
    socket: str
    num_queues: int = 1
    queue_size: int = 256
    config_size: int = 0
    mac: str = ""


def lines_for(frontend: str, device: Attachable) -> str:
    """The lines for one of `FRONTENDS`."""
    return FRONTENDS[frontend](device)


def _qemu(device: Attachable) -> str:
    return "\n".join(
        [
            f"-m {MEMORY} -object memory-backend-memfd,id=mem,size={MEMORY},share=on",
            "-machine q35,accel=kvm:tcg,memory-backend=mem",
            shlex.join(_qemu_nic(device) if device.device_id == NET else _qemu_device(device)),
        ]
    )


def _qemu_device(device: Attachable) -> list[str]:
    path = device.socket.replace(",", ",,")
    card = {BLK: "vhost-user-blk-pci", RNG: "vhost-user-rng-pci"}.get(device.device_id)
    options = "chardev=c0"
    if card is None:
        # QEMU 10.2 and later: a card for any device type.
        card = "vhost-user-test-device-pci"
        options += f",virtio-id={device.device_id},num_vqs={device.num_queues},vq_size={device.queue_size}"
        options += f",config_size={device.config_size}"
    elif device.num_queues > 1:
        options += f",num-queues={device.num_queues}"
    return ["-chardev", f"socket,id=c0,path={path}", "-device", f"{card},{options}"]


def _qemu_nic(device: Attachable) -> list[str]:
    """The guest sees the address and the number of queues that QEMU is told, not ours."""
    path = device.socket.replace(",", ",,")
    netdev, card = "vhost-user,id=n0,chardev=c0", "virtio-net-pci,netdev=n0"
    if device.mac:
        card += f",mac={device.mac}"
    if device.num_queues > 1:
        netdev += f",queues={device.num_queues}"
        card += f",mq=on,vectors={2 * device.num_queues + 2}"
    if USUAL_RING < device.queue_size <= 1024:
        card += f",rx_queue_size={device.queue_size},tx_queue_size={device.queue_size}"
    return ["-chardev", f"socket,id=c0,path={path}", "-netdev", netdev, "-device", card]


def _libvirt(device: Attachable) -> str:
    memory = (
        "<memoryBacking>\n  <source type='memfd'/>\n  <access mode='shared'/>\n</memoryBacking>\n"
        "<!-- in <devices>: -->\n"
    )
    if device.device_id == NET:
        return memory + _libvirt_nic(device)
    if device.device_id != BLK:
        arguments = "".join(f"  <qemu:arg value={_xml(word)}/>\n" for word in _qemu_device(device))
        name = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"
        return (
            memory.partition("<!--")[0]
            + f"<!-- with {name} in <domain>: -->\n<qemu:commandline>\n{arguments}</qemu:commandline>"
        )
    queues = f" queues='{device.num_queues}'" if device.num_queues > 1 else ""
    return (
        f"{memory}<disk type='vhostuser' device='disk'>\n"
        f"  <driver name='qemu' type='raw'{queues}/>\n"
        f"  <source type='unix' path={_xml(device.socket)}>\n"
        "    <reconnect enabled='yes' timeout='10'/>\n"
        "  </source>\n  <target dev='vda' bus='virtio'/>\n</disk>"
    )


def _libvirt_nic(device: Attachable) -> str:
    lines = ["<interface type='vhostuser'>"]
    if device.mac:
        lines.append(f"  <mac address={_xml(device.mac)}/>")
    lines += [f"  <source type='unix' path={_xml(device.socket)} mode='client'/>", "  <model type='virtio'/>"]
    if device.num_queues > 1:
        lines.append(f"  <driver queues='{device.num_queues}'/>")
    return "\n".join([*lines, "</interface>"])


def _xml(text: str) -> str:
    for plain, written in (("&", "&amp;"), ("<", "&lt;"), ("'", "&apos;")):
        text = text.replace(plain, written)
    return f"'{text}'"


def _cloud_hypervisor(device: Attachable) -> str:
    memory = f"--memory size={MEMORY},shared=on\n"
    path = device.socket
    if device.device_id == BLK:
        queues = f",num_queues={device.num_queues}" if device.num_queues > 1 else ""
        return memory + shlex.join(["--disk", f"vhost_user=on,socket={path}{queues}"])
    if device.device_id == NET:
        mac = f",mac={device.mac}" if device.mac else ""
        queues = f",num_queues={2 * device.num_queues}"
        return memory + shlex.join(["--net", f"vhost_user=true,socket={path}{mac}{queues}"])
    sizes = ",".join([str(device.queue_size)] * device.num_queues)
    value = f'socket="{path}",device_type={device.device_id},queue_sizes=[{sizes}]'
    return memory + shlex.join(["--generic-vhost-user", value])


def _crosvm(device: Attachable) -> str:
    from virtio.spec.ids import name

    kind = {NET: "net", BLK: "block", RNG: "rng"}.get(device.device_id) or name(device.device_id)
    return shlex.join(["--vhost-user", f"{kind},socket={device.socket}"])


def _uml(device: Attachable) -> str:
    return shlex.join([f"virtio_uml.device={device.socket}:{device.device_id}"])


FRONTENDS: dict[str, Callable[[Attachable], str]] = {
    "qemu": _qemu,
    "libvirt": _libvirt,
    "cloud-hypervisor": _cloud_hypervisor,
    "crosvm": _crosvm,
    "uml": _uml,
}
"""The front-ends that there are lines for."""
