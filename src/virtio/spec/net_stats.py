"""Statistics of the network device.

Virtio 1.4, "Device Types / Network Device / Device Operation / Control Virtqueue / Device Statistics".
"""

from __future__ import annotations

from virtio.spec.layout import Struct, array, le16, le64, u8

# Other numbers
OK = 0
ERR = 1
CTRL_RX = 0
CTRL_RX_PROMISC = 0
CTRL_RX_ALLMULTI = 1
CTRL_RX_ALLUNI = 2
CTRL_RX_NOMULTI = 3
CTRL_RX_NOUNI = 4
CTRL_RX_NOBCAST = 5
CTRL_MAC = 1
CTRL_MAC_TABLE_SET = 0
CTRL_MAC_ADDR_SET = 1
CTRL_VLAN = 2
CTRL_VLAN_ADD = 0
CTRL_VLAN_DEL = 1
CTRL_ANNOUNCE = 3
CTRL_ANNOUNCE_ACK = 0
CTRL_MQ = 4
CTRL_MQ_VQ_PAIRS_SET = 0
CTRL_MQ_RSS_CONFIG = 1
CTRL_MQ_HASH_CONFIG = 2
CTRL_MQ_VQ_PAIRS_MIN = 1
CTRL_MQ_VQ_PAIRS_MAX = 0x8000
RSS_CTX_CTRL = 9
RSS_CTX_CTRL_CAP_GET = 0
RSS_CTX_CTRL_ADD = 1
RSS_CTX_CTRL_MOD = 2
RSS_CTX_CTRL_DEL = 3
CTRL_GUEST_OFFLOADS = 5
CTRL_GUEST_OFFLOADS_SET = 0
CTRL_NOTF_COAL = 6
CTRL_NOTF_COAL_TX_SET = 0
CTRL_NOTF_COAL_RX_SET = 1
CTRL_NOTF_COAL_VQ_SET = 2
CTRL_NOTF_COAL_VQ_GET = 3
CTRL_STATS = 8
CTRL_STATS_QUERY = 0
CTRL_STATS_GET = 1

# Kinds of statistics in an answer
STATS_TYPE_REPLY_CVQ = 32
STATS_TYPE_REPLY_RX_BASIC = 0
STATS_TYPE_REPLY_RX_CSUM = 1
STATS_TYPE_REPLY_RX_GSO = 2
STATS_TYPE_REPLY_RX_SPEED = 3
STATS_TYPE_REPLY_TX_BASIC = 16
STATS_TYPE_REPLY_TX_CSUM = 17
STATS_TYPE_REPLY_TX_GSO = 18
STATS_TYPE_REPLY_TX_SPEED = 19

# Bits of statistics
STATS_TYPE_CVQ = 1 << 32
STATS_TYPE_RX_BASIC = 1 << 0
STATS_TYPE_RX_CSUM = 1 << 1
STATS_TYPE_RX_GSO = 1 << 2
STATS_TYPE_RX_SPEED = 1 << 3
STATS_TYPE_TX_BASIC = 1 << 16
STATS_TYPE_TX_CSUM = 1 << 17
STATS_TYPE_TX_GSO = 1 << 18
STATS_TYPE_TX_SPEED = 1 << 19


# Device Operation / Control Virtqueue / Device Statistics / Query Statistic Capabilities
class StatsCapabilities(Struct, name="virtio_net_stats_capabilities"):
    """The answer to CTRL_STATS_QUERY."""

    supported_stats_types = le64(1)


# Device Operation / Control Virtqueue / Device Statistics / Get Statistics
class QueueStats(Struct, name="virtio_net_ctrl_queue_stats.stats"):
    """Which statistics of a virtqueue are asked for."""

    vq_index = le16()
    reserved = le16(3)
    types_bitmap = le64(1, doc="bits STATS_TYPE_*")


class CtrlQueueStats(Struct, name="virtio_net_ctrl_queue_stats", part="readable"):
    """CTRL_STATS_GET."""

    stats = array(QueueStats, "...")


class StatsReplyHdr(Struct, name="virtio_net_stats_reply_hdr"):
    """What a group of statistics begins with."""

    type = u8()
    reserved = u8()
    vq_index = le16()
    reserved1 = le16()
    size = le16()


# Device Operation / Control Virtqueue / Device Statistics / Controlq Statistics
class StatsCvq(Struct, name="virtio_net_stats_cvq"):
    """Of the control queue."""

    hdr = array(StatsReplyHdr)
    command_num = le64()
    ok_num = le64()


# Device Operation / Control Virtqueue / Device Statistics / Receiveq Basic Statistics
class StatsRxBasic(Struct, name="virtio_net_stats_rx_basic"):
    """Of a receive queue."""

    hdr = array(StatsReplyHdr)
    rx_notifications = le64()
    rx_packets = le64()
    rx_bytes = le64()
    rx_interrupts = le64()
    rx_drops = le64()
    rx_drop_overruns = le64()


# Device Operation / Control Virtqueue / Device Statistics / Transmitq Basic Statistics
class StatsTxBasic(Struct, name="virtio_net_stats_tx_basic"):
    """Of a transmit queue."""

    hdr = array(StatsReplyHdr)
    tx_notifications = le64()
    tx_packets = le64()
    tx_bytes = le64()
    tx_interrupts = le64()
    tx_drops = le64()
    tx_drop_malformed = le64()


# Device Operation / Control Virtqueue / Device Statistics / Receiveq CSUM Statistics
class StatsRxCsum(Struct, name="virtio_net_stats_rx_csum"):
    """Checksums of a receive queue."""

    hdr = array(StatsReplyHdr)
    rx_csum_valid = le64()
    rx_needs_csum = le64()
    rx_csum_none = le64()
    rx_csum_bad = le64()


# Device Operation / Control Virtqueue / Device Statistics / Transmitq CSUM Statistics
class StatsTxCsum(Struct, name="virtio_net_stats_tx_csum"):
    """Checksums of a transmit queue."""

    hdr = array(StatsReplyHdr)
    tx_csum_none = le64()
    tx_needs_csum = le64()


# Device Operation / Control Virtqueue / Device Statistics / Receiveq GSO Statistics
class StatsRxGso(Struct, name="virtio_net_stats_rx_gso"):
    """GSO of a receive queue."""

    hdr = array(StatsReplyHdr)
    rx_gso_packets = le64()
    rx_gso_bytes = le64()
    rx_gso_packets_coalesced = le64()
    rx_gso_bytes_coalesced = le64()


# Device Operation / Control Virtqueue / Device Statistics / Transmitq GSO Statistics
class StatsTxGso(Struct, name="virtio_net_stats_tx_gso"):
    """GSO of a transmit queue."""

    hdr = array(StatsReplyHdr)
    tx_gso_packets = le64()
    tx_gso_bytes = le64()
    tx_gso_segments = le64()
    tx_gso_segments_bytes = le64()
    tx_gso_packets_noseg = le64()
    tx_gso_bytes_noseg = le64()


# Device Operation / Control Virtqueue / Device Statistics / Receiveq Speed Statistics
class StatsRxSpeed(Struct, name="virtio_net_stats_rx_speed"):
    """Limits of a receive queue."""

    hdr = array(StatsReplyHdr)
    rx_packets_allowance_exceeded = le64()
    rx_bytes_allowance_exceeded = le64()


# Device Operation / Control Virtqueue / Device Statistics / Transmitq Speed Statistics
class StatsTxSpeed(Struct, name="virtio_net_stats_tx_speed"):
    """Limits of a transmit queue."""

    hdr = array(StatsReplyHdr)
    tx_packets_allowance_exceeded = le64()
    tx_bytes_allowance_exceeded = le64()
