"""Control queue of the network device.

Virtio 1.4, "Device Types / Network Device / Device Operation / Control Virtqueue".
"""

from __future__ import annotations

from virtio.spec.layout import Struct, array, le16, le32, u8

# Other numbers
OK = 0
ERR = 1
DEV_PART_CVQ_CFG_PART = 0x200

# Command classes, each followed by its commands
CTRL_HASH_TUNNEL = 7
CTRL_HASH_TUNNEL_SET = 0
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

# Class of RSS contexts and its commands
RSS_CTX_CTRL = 9
RSS_CTX_CTRL_CAP_GET = 0
RSS_CTX_CTRL_ADD = 1
RSS_CTX_CTRL_MOD = 2
RSS_CTX_CTRL_DEL = 3

# Bit numbers of GUEST_OFFLOADS_SET (VIRTIO_NET_F_ in the specification, two bits differ from the features)
OFFLOAD_GUEST_CSUM = 1
OFFLOAD_GUEST_TSO4 = 7
OFFLOAD_GUEST_TSO6 = 8
OFFLOAD_GUEST_ECN = 9
OFFLOAD_GUEST_UFO = 10
OFFLOAD_GUEST_UDP_TUNNEL_GSO = 46
OFFLOAD_GUEST_UDP_TUNNEL_GSO_CSUM = 47
OFFLOAD_GUEST_USO4 = 54
OFFLOAD_GUEST_USO6 = 55


# Device parts / VIRTIO-NET-DEV-PART-CVQ-CFG-PART
class DevPartCvqSelector(Struct, name="virtio_net_dev_part_cvq_selector"):
    """Which command a part of a saved device's state repeats."""

    class_ = u8(doc="one of CTRL_*")
    command = u8()
    reserved = u8(6)


# Inner Header Hash
class HashTunnel(Struct, name="virtnet_hash_tunnel"):
    """HASH_TUNNEL_SET."""

    enabled_tunnel_types = le32()


# Device Operation / Control Virtqueue
class Ctrl(Struct, name="virtio_net_ctrl", part="readable"):
    """A command; ``class`` in the specification is ``class_`` here."""

    class_ = u8(doc="one of CTRL_*")
    command = u8(doc="one of CTRL_*_* of that class")
    data = u8("...")


class CtrlAck(Struct, name="virtio_net_ctrl", part="writable"):
    """Its outcome."""

    ack = u8(doc="OK or ERR")
    result = u8("...")


class MacAddress(Struct, name="u8[6]"):
    """An Ethernet address."""

    address = u8(6)


# Device Operation / Control Virtqueue / Setting MAC Address Filtering
class CtrlMac(Struct, name="virtio_net_ctrl_mac", part="readable"):
    """Half of MAC_TABLE_SET: unicast addresses, then the same again with the multicast ones."""

    entries = le32()
    macs = array(MacAddress, "entries")


# Device Operation / Control Virtqueue / Automatic receive steering in multiqueue mode
class CtrlMqPairsSet(Struct, name="virtio_net_ctrl_mq_pairs_set"):
    """MQ_VQ_PAIRS_SET."""

    virtqueue_pairs = le16()


# Device Operation / Control Virtqueue / Automatic receive steering in multiqueue mode / Hash calculation
class HashConfig(Struct, name="virtio_net_hash_config"):
    """MQ_HASH_CONFIG."""

    hash_types = le32()
    reserved = le16(4)
    hash_key_length = u8()
    hash_key_data = u8("hash_key_length")


# Device Operation / Control Virtqueue / Receive-side scaling (RSS) / Setting RSS parameters
class RssConfig(Struct, name="virtio_net_rss_config", part="readable"):
    """MQ_RSS_CONFIG. A queue is given as half its virtqueue index."""

    hash_types = le32(doc="bits HASH_TYPE_*")
    indirection_table_mask = le16(doc="entries of the table, less one")
    unclassified_queue = le16()
    indirection_table = le16("indirection_table_length", doc="indirection_table_mask + 1 entries")
    max_tx_vq = le16()
    hash_key_length = u8()
    hash_key_data = u8("hash_key_length")


# Device Operation / Control Virtqueue / RSS Context / Querying RSS Context Capability
class RssCtxCap(Struct, name="virtnet_rss_ctx_cap"):
    """The answer to RSS_CTX_CTRL_CAP_GET."""

    max_rss_contexts = le16()


# Device Operation / Control Virtqueue / RSS Context / Setting RSS Context Parameters
class RssCtxAddModify(Struct, name="virtnet_rss_ctx_add_modify", part="readable"):
    """RSS_CTX_CTRL_ADD and RSS_CTX_CTRL_MOD; a RssConfig follows."""

    rss_ctx_id = le16()
    reserved = u8(6)


class RssCtxDel(Struct, name="virtnet_rss_ctx_del"):
    """RSS_CTX_CTRL_DEL."""

    rss_ctx_id = le16()


# Device Operation / Control Virtqueue / Notifications Coalescing
class CtrlCoal(Struct, name="virtio_net_ctrl_coal"):
    """Coalescing of notifications."""

    max_packets = le32()
    max_usecs = le32()


class CtrlCoalVq(Struct, name="virtio_net_ctrl_coal_vq"):
    """Coalescing of the notifications of one virtqueue."""

    vq_index = le16()
    reserved = le16()
    coal = array(CtrlCoal)
