"""SPI controller (virtio 1.4, "Device Types / SPI Controller Device")."""

from __future__ import annotations

from virtio.spec.declare import DeviceType, Queue
from virtio.spec.layout import Struct, le32, u8

# Results
TRANS_OK = 0
TRANS_ERR = 2

# Results (continued)
PARAM_ERR = 1

# Modes (the specification numbers the bits)
MODE_CPHA = 1 << 0
MODE_CPOL = 1 << 1
MODE_CS_HIGH = 1 << 2
MODE_LSB_FIRST = 1 << 3
MODE_LOOP = 1 << 4


# Device configuration layout
class Config(Struct, name="virtio_spi_config"):
    """Configuration space."""

    cs_max_number = u8()
    cs_change_supported = u8()
    tx_nbits_supported = u8()
    rx_nbits_supported = u8()
    bits_per_word_mask = le32(doc="bit n: n+1 bits per word")
    mode_func_supported = le32()
    max_freq_hz = le32()
    max_word_delay_ns = le32()
    max_cs_setup_ns = le32()
    max_cs_hold_ns = le32()
    max_cs_inactive_ns = le32()


# Device Operation: Request Queue
class TransferHead(Struct, name="virtio_spi_transfer_head"):
    """What a transfer begins with; data to send and room for data to receive follow."""

    chip_select_id = u8()
    bits_per_word = u8()
    cs_change = u8()
    tx_nbits = u8()
    rx_nbits = u8()
    reserved = u8(3)
    mode = le32(doc="bits MODE_*")
    freq = le32()
    word_delay_ns = le32()
    cs_setup_ns = le32()
    cs_delay_hold_ns = le32()
    cs_change_delay_inactive_ns = le32()


class TransferResult(Struct, name="virtio_spi_transfer_result"):
    """What a transfer ends with."""

    result = u8(doc="TRANS_OK, PARAM_ERR or TRANS_ERR")


DEVICE = DeviceType(
    __name__,
    id=45,
    title="SPI Controller Device",
    prefix="VIRTIO_SPI_",
    queues=(Queue("requestq", 0),),
    config=Config,
    groups={
        "TRANS_": "results",
        "PARAM_": "results (continued)",
        "MODE_": "modes (the specification numbers the bits)",
    },
)
