"""Virtio over PCI (virtio 1.4, 4.1 "Virtio Over PCI Bus"), modern and legacy."""

from __future__ import annotations

from virtio.spec.layout import Struct, array, le16, le32, le64, u8

VENDOR_ID = 0x1AF4
"""The PCI vendor id of every virtio device."""
DEVICE_ID_BASE = 0x1040
"""The PCI device id of a device that is not transitional, less its virtio device id."""
CAP_ID_VNDR = 0x09
"""PCI's own number for a vendor-specific capability."""
MSI_NO_VECTOR = 0xFFFF
"""The vector that means none."""

# Which structure a capability points at
CAP_COMMON_CFG = 1
CAP_NOTIFY_CFG = 2
CAP_ISR_CFG = 3
CAP_DEVICE_CFG = 4
CAP_PCI_CFG = 5
CAP_SHARED_MEMORY_CFG = 8
CAP_VENDOR_CFG = 9

# Bits of the ISR status
ISR_QUEUE = 1
ISR_CONFIG = 2

# Where the device configuration begins in the legacy I/O region, without and with MSI-X enabled
LEGACY_CONFIG = 20
LEGACY_CONFIG_MSIX = 24


class Cap(Struct, name="virtio_pci_cap"):
    """Where a structure is."""

    cap_vndr = u8(doc="CAP_ID_VNDR")
    cap_next = u8()
    cap_len = u8(doc="bytes of the capability")
    cfg_type = u8(doc="one of CAP_*")
    bar = u8()
    id = u8(doc="tells apart several of one type")
    padding = u8(2)
    offset = le32(doc="bytes into the BAR")
    length = le32(doc="bytes")


class Cap64(Struct, name="virtio_pci_cap64"):
    """Where a structure is, of a size or at an offset beyond 4 GiB."""

    cap = array(Cap)
    offset_hi = le32()
    length_hi = le32()


class NotifyCap(Struct, name="virtio_pci_notify_cap"):
    """Where the notifications go."""

    cap = array(Cap)
    notify_off_multiplier = le32(doc="bytes per queue_notify_off")


class CfgCap(Struct, name="virtio_pci_cfg_cap"):
    """A window on the BARs in configuration space."""

    cap = array(Cap)
    pci_cfg_data = u8(4)


class VndrData(Struct, name="virtio_pci_vndr_data"):
    """What a vendor's own capability begins with."""

    cap_vndr = u8(doc="CAP_ID_VNDR")
    cap_next = u8()
    cap_len = u8()
    cfg_type = u8(doc="CAP_VENDOR_CFG")
    vendor_id = le16()


class CommonCfg(Struct, name="virtio_pci_common_cfg"):
    """The common configuration structure."""

    device_feature_select = le32()
    device_feature = le32(doc="read-only")
    driver_feature_select = le32()
    driver_feature = le32()
    config_msix_vector = le16()
    num_queues = le16(doc="read-only")
    device_status = u8(doc="virtio.spec.status")
    config_generation = u8(doc="read-only")
    queue_select = le16()
    queue_size = le16()
    queue_msix_vector = le16()
    queue_enable = le16()
    queue_notify_off = le16(doc="read-only")
    queue_desc = le64()
    queue_driver = le64()
    queue_device = le64()
    queue_notif_config_data = le16(feature="NOTIF_CONFIG_DATA", doc="read-only")
    queue_reset = le16(feature="RING_RESET")
    admin_queue_index = le16(feature="ADMIN_VQ", doc="read-only")
    admin_queue_num = le16(feature="ADMIN_VQ", doc="read-only")


class LegacyHeader(Struct, name="legacy virtio header"):
    """The registers of the legacy I/O region; with MSI-X enabled LegacyVectors follows."""

    device_features = le32(doc="read-only")
    driver_features = le32()
    queue_address = le32(doc="address / 4096")
    queue_size = le16(doc="read-only")
    queue_select = le16()
    queue_notify = le16()
    device_status = u8()
    isr_status = u8(doc="read-only; reading clears it")


class LegacyVectors(Struct, name="legacy virtio header (MSI-X)"):
    """The registers that exist while MSI-X is enabled."""

    config_msix_vector = le16()
    queue_msix_vector = le16()
