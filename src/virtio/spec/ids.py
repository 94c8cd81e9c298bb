"""Device ids (virtio 1.4, 5 "Device Types"): which there are, and which have a chapter.

The device types with a chapter have a module each beside this one, loaded when first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, cast

from virtio.errors import UsageError

if TYPE_CHECKING:
    from virtio.spec.declare import DeviceType

__all__ = ["DEVICES", "DeviceId", "device", "find", "has_chapter", "name"]


class DeviceId(NamedTuple):
    """A device id: its short name, its title, and whether the specification has a chapter about it.

    ``pci`` is the PCI device id of its transitional device, 0 if there is none.
    """

    id: int
    name: str
    title: str
    chapter: bool = False
    pci: int = 0

    @property
    def modern_pci(self) -> int:
        """The PCI device id of a device that is not transitional."""
        return 0x1040 + self.id


DEVICES: tuple[DeviceId, ...] = (
    DeviceId(1, "net", "network device", True, 0x1000),
    DeviceId(2, "blk", "block device", True, 0x1001),
    DeviceId(3, "console", "console", True, 0x1003),
    DeviceId(4, "entropy", "entropy source", True, 0x1005),
    DeviceId(5, "balloon", "memory balloon (traditional)", True, 0x1002),
    DeviceId(6, "iomem", "ioMemory"),
    DeviceId(7, "rpmsg", "rpmsg"),
    DeviceId(8, "scsi", "SCSI host", True, 0x1004),
    DeviceId(9, "9p", "9P transport", False, 0x1009),
    DeviceId(10, "mac80211-wlan", "mac80211 wlan"),
    DeviceId(11, "rproc-serial", "rproc serial"),
    DeviceId(12, "caif", "virtio CAIF"),
    DeviceId(13, "memory-balloon", "memory balloon"),
    DeviceId(16, "gpu", "GPU device", True),
    DeviceId(17, "rtc", "RTC (Timer/Clock) device", True),
    DeviceId(18, "input", "input device", True),
    DeviceId(19, "vsock", "socket device", True),
    DeviceId(20, "crypto", "crypto device", True),
    DeviceId(21, "signal", "signal distribution module"),
    DeviceId(22, "pstore", "pstore device"),
    DeviceId(23, "iommu", "IOMMU device", True),
    DeviceId(24, "mem", "memory device", True),
    DeviceId(25, "sound", "sound device", True),
    DeviceId(26, "fs", "file system device", True),
    DeviceId(27, "pmem", "PMEM device", True),
    DeviceId(28, "rpmb", "RPMB device", True),
    DeviceId(29, "mac80211-hwsim", "mac80211 hwsim wireless simulation device"),
    DeviceId(30, "video-encoder", "video encoder device"),
    DeviceId(31, "video-decoder", "video decoder device"),
    DeviceId(32, "scmi", "SCMI device", True),
    DeviceId(33, "nitro-secure-module", "Nitro secure module"),
    DeviceId(34, "i2c", "I2C adapter", True),
    DeviceId(35, "watchdog", "watchdog"),
    DeviceId(36, "can", "CAN device", True),
    DeviceId(38, "parameter-server", "parameter server"),
    DeviceId(39, "audio-policy", "audio policy device"),
    DeviceId(40, "bluetooth", "Bluetooth device"),
    DeviceId(41, "gpio", "GPIO device", True),
    DeviceId(42, "rdma", "RDMA device"),
    DeviceId(43, "camera", "camera device"),
    DeviceId(44, "ism", "ISM device"),
    DeviceId(45, "spi", "SPI controller", True),
    DeviceId(46, "tee", "TEE device"),
    DeviceId(47, "cpu-balloon", "CPU balloon device"),
    DeviceId(48, "media", "media device", True),
    DeviceId(49, "usb", "USB controller"),
)

ALIASES = {
    "block": "blk",
    "network": "net",
    "rng": "entropy",
    "socket": "vsock",
    "snd": "sound",
    "memory": "mem",
    "virtiofs": "fs",
    "serial": "console",
}
"""Names by which other programs know a device type."""


def find(key: int | str) -> DeviceId:
    """A device id by number ("2" too) or by name; UsageError if there is none."""
    text = str(key).lower()
    text = ALIASES.get(text, text)
    for entry in DEVICES:
        if text in (entry.name, str(entry.id)):
            return entry
    raise UsageError(f"no device type {key!r} is known", fix="virtio spec lists them all")


def has_chapter(key: int | str) -> bool:
    """Whether the specification says what this device is; False for ids it does not know."""
    try:
        return find(key).chapter
    except UsageError:
        return False


def name(device_id: int) -> str:
    """The short name of a device id, or "device 99"."""
    return next((entry.name for entry in DEVICES if entry.id == device_id), f"device {device_id}")


def device(key: int | str) -> DeviceType:
    """The declaration of a device type; UsageError if it is unknown or has no chapter."""
    entry = find(key)
    if not entry.chapter:
        raise UsageError(f"{entry.name} (device id {entry.id}) has no chapter in the specification")
    return cast("DeviceType", import_module(f"virtio.spec.{entry.name}").DEVICE)
