"""Network device (virtio 1.4, "Device Types / Network Device").

Every packet is preceded by a ``Hdr``; how much of it there is depends on the features: 10 bytes on the
legacy interface without MRG_RXBUF, else 12, 20 with HASH_REPORT, 24 with a UDP_TUNNEL_GSO bit, 32 with
OUT_NET_HEADER or IPSEC. The control queue's commands are in ``net_control``, their statistics in
``net_stats``, flow filters and IPsec in ``net_flow``.
"""

from __future__ import annotations

from virtio.spec.declare import DeviceType, Feature, Queue
from virtio.spec.layout import Struct, le16, le32, u8

# Feature bits
F_CSUM = Feature(0, "the device handles packets with partial checksum")
F_GUEST_CSUM = Feature(1, "the driver handles packets with partial checksum")
F_CTRL_GUEST_OFFLOADS = Feature(2, "offloads can be changed while running")
F_MTU = Feature(3, "the device reports its maximum MTU")
F_MAC = Feature(5, "the device has a MAC address")
F_GSO = Feature(6, "any GSO type", legacy=True)
F_GUEST_TSO4 = Feature(7, "the driver receives TSOv4", needs=("GUEST_CSUM",))
F_GUEST_TSO6 = Feature(8, "the driver receives TSOv6", needs=("GUEST_CSUM",))
F_GUEST_ECN = Feature(9, "the driver receives TSO with ECN", needs=("GUEST_TSO4|GUEST_TSO6",))
F_GUEST_UFO = Feature(10, "the driver receives UFO", needs=("GUEST_CSUM",))
F_HOST_TSO4 = Feature(11, "the device receives TSOv4", needs=("CSUM",))
F_HOST_TSO6 = Feature(12, "the device receives TSOv6", needs=("CSUM",))
F_HOST_ECN = Feature(13, "the device receives TSO with ECN", needs=("HOST_TSO4|HOST_TSO6",))
F_HOST_UFO = Feature(14, "the device receives UFO", needs=("CSUM",))
F_MRG_RXBUF = Feature(15, "a packet may span several receive buffers")
F_STATUS = Feature(16, "the state of the link is in status")
F_CTRL_VQ = Feature(17, "the control queue")
F_CTRL_RX = Feature(18, "receive modes", needs=("CTRL_VQ",))
F_CTRL_VLAN = Feature(19, "VLAN filtering", needs=("CTRL_VQ",))
F_CTRL_RX_EXTRA = Feature(20, "further receive modes")
F_GUEST_ANNOUNCE = Feature(21, "the driver sends gratuitous packets when asked", needs=("CTRL_VQ",))
F_MQ = Feature(22, "several queue pairs", needs=("CTRL_VQ",))
F_CTRL_MAC_ADDR = Feature(23, "the MAC address can be set by command", needs=("CTRL_VQ",))
F_GUEST_RSC4 = Feature(41, "the device coalesces TCP over IPv4 (historical)", legacy=True)
F_GUEST_RSC6 = Feature(42, "the device coalesces TCP over IPv6 (historical)", legacy=True)
F_DEVICE_STATS = Feature(50, "statistics over the control queue")
F_HASH_TUNNEL = Feature(
    51, "hash of the inner header of tunnelled packets", needs=("CTRL_VQ", "RSS|HASH_REPORT")
)
F_VQ_NOTF_COAL = Feature(52, "notification coalescing per virtqueue", needs=("CTRL_VQ",))
F_NOTF_COAL = Feature(53, "notification coalescing", needs=("CTRL_VQ",))
F_GUEST_USO4 = Feature(54, "the driver receives USOv4", needs=("GUEST_CSUM",))
F_GUEST_USO6 = Feature(55, "the driver receives USOv6", needs=("GUEST_CSUM",))
F_HOST_USO = Feature(56, "the device receives USO", needs=("CSUM",))
F_HASH_REPORT = Feature(57, "a hash with every received packet")
F_GUEST_HDRLEN = Feature(59, "the driver gives the exact header length")
F_RSS = Feature(60, "receive-side scaling", needs=("CTRL_VQ",))
F_RSC_EXT = Feature(
    61, "the device reports coalesced segments and duplicate ACKs", needs=("HOST_TSO4|HOST_TSO6",)
)
F_STANDBY = Feature(62, "a standby for another device with the same MAC address")
F_SPEED_DUPLEX = Feature(63, "speed and duplex are reported")
F_RSS_CONTEXT = Feature(64, "several RSS contexts", needs=("CTRL_VQ", "RSS"))
F_GUEST_UDP_TUNNEL_GSO = Feature(
    65,
    "the driver receives GSO packets in UDP tunnels",
    needs=("GUEST_TSO4", "GUEST_TSO6", "GUEST_USO4", "GUEST_USO6"),
)
F_GUEST_UDP_TUNNEL_GSO_CSUM = Feature(
    66, "the driver handles partial outer UDP checksums", needs=("GUEST_UDP_TUNNEL_GSO",)
)
F_HOST_UDP_TUNNEL_GSO = Feature(
    67, "the device receives GSO packets in UDP tunnels", needs=("HOST_TSO4", "HOST_TSO6", "HOST_USO")
)
F_HOST_UDP_TUNNEL_GSO_CSUM = Feature(
    68, "the device handles partial outer UDP checksums", needs=("HOST_UDP_TUNNEL_GSO",)
)
F_OUT_NET_HEADER = Feature(69, "the driver gives the start of the outer network header")
F_IPSEC = Feature(70, "IPsec processing in line")

# Status of the link, in Config.status
S_LINK_UP = 1
S_ANNOUNCE = 2

# Flags of a header
HDR_F_NEEDS_CSUM = 1
HDR_F_DATA_VALID = 2
HDR_F_RSC_INFO = 4
HDR_F_UDP_TUNNEL_CSUM = 8
HDR_F_SECURITY = 16
HDR_F_SECURITY_ERR = 32
HDR_F_SECURITY_SA_SOFT_EXPIRY_WARN = 64

# Segmentation of a packet
HDR_GSO_NONE = 0
HDR_GSO_TCPV4 = 1
HDR_GSO_UDP = 3
HDR_GSO_TCPV6 = 4
HDR_GSO_UDP_L4 = 5
HDR_GSO_UDP_TUNNEL_IPV4 = 0x20
HDR_GSO_UDP_TUNNEL_IPV6 = 0x40
HDR_GSO_ECN = 0x80

# Bits of the hash types
HASH_TYPE_IPv4 = 1 << 0
HASH_TYPE_TCPv4 = 1 << 1
HASH_TYPE_UDPv4 = 1 << 2
HASH_TYPE_IPv6 = 1 << 3
HASH_TYPE_TCPv6 = 1 << 4
HASH_TYPE_UDPv6 = 1 << 5
HASH_TYPE_IP_EX = 1 << 6
HASH_TYPE_TCP_EX = 1 << 7
HASH_TYPE_UDP_EX = 1 << 8

# Which hash a received packet carries
HASH_REPORT_NONE = 0
HASH_REPORT_IPv4 = 1
HASH_REPORT_TCPv4 = 2
HASH_REPORT_UDPv4 = 3
HASH_REPORT_IPv6 = 4
HASH_REPORT_TCPv6 = 5
HASH_REPORT_UDPv6 = 6
HASH_REPORT_IPv6_EX = 7
HASH_REPORT_TCPv6_EX = 8
HASH_REPORT_UDPv6_EX = 9

# Bits of the tunnel types
HASH_TUNNEL_TYPE_GRE_2784 = 1 << 0
HASH_TUNNEL_TYPE_GRE_2890 = 1 << 1
HASH_TUNNEL_TYPE_GRE_7676 = 1 << 2
HASH_TUNNEL_TYPE_GRE_UDP = 1 << 3
HASH_TUNNEL_TYPE_VXLAN = 1 << 4
HASH_TUNNEL_TYPE_VXLAN_GPE = 1 << 5
HASH_TUNNEL_TYPE_GENEVE = 1 << 6
HASH_TUNNEL_TYPE_IPIP = 1 << 7
HASH_TUNNEL_TYPE_NVGRE = 1 << 8


# Device configuration layout
class Config(Struct, name="virtio_net_config"):
    """Configuration space."""

    mac = u8(6, feature="MAC", doc="writable by the driver on the legacy interface")
    status = le16(feature="STATUS", doc="bits S_*")
    max_virtqueue_pairs = le16(feature="MQ|RSS", doc="1 to 0x8000")
    mtu = le16(feature="MTU", doc="bytes")
    speed = le32(feature="SPEED_DUPLEX", doc="Mbit/s; 0xffffffff unknown")
    duplex = u8(feature="SPEED_DUPLEX", doc="0 half, 1 full, 0xff unknown")
    rss_max_key_size = u8(feature="RSS|HASH_REPORT", doc="bytes")
    rss_max_indirection_table_length = le16(feature="RSS", doc="entries")
    supported_hash_types = le32(feature="RSS|HASH_REPORT", doc="bits HASH_TYPE_*")
    supported_tunnel_types = le32(feature="HASH_TUNNEL", doc="bits HASH_TUNNEL_TYPE_*")


# Device Operation
class Hdr(Struct, name="virtio_net_hdr"):
    """What precedes every packet, at its longest (32 bytes)."""

    flags = u8(doc="bits HDR_F_*")
    gso_type = u8(doc="one of HDR_GSO_*, with HDR_GSO_ECN")
    hdr_len = le16(doc="bytes")
    gso_size = le16(doc="bytes per segment")
    csum_start = le16(doc="bytes from the start of the packet")
    csum_offset = le16(doc="bytes from csum_start")
    num_buffers = le16(doc="buffers this packet spans; not on the legacy interface without MRG_RXBUF")
    hash_value = le32(feature="HASH_REPORT")
    hash_report = le16(feature="HASH_REPORT", doc="one of HASH_REPORT_*")
    padding_reserved = le16(feature="HASH_REPORT")
    outer_th_offset = le16(feature="HOST_UDP_TUNNEL_GSO|GUEST_UDP_TUNNEL_GSO", doc="bytes")
    inner_nh_offset = le16(feature="HOST_UDP_TUNNEL_GSO|GUEST_UDP_TUNNEL_GSO", doc="bytes")
    outer_nh_offset = le16(feature="OUT_NET_HEADER", doc="bytes")
    ipsec_resource_id = le32(feature="IPSEC")
    ipsec_resource_type = le16(feature="IPSEC")


DEVICE = DeviceType(
    __name__,
    id=1,
    title="Network Device",
    prefix="VIRTIO_NET_",
    queues=(
        Queue("receiveq1", 0, repeat="receiveqN at 2(N-1), N up to max_virtqueue_pairs with MQ or RSS"),
        Queue("transmitq1", 1, repeat="transmitqN at 2(N-1)+1"),
        Queue("controlq", 2, repeat="always last: 2 x max_virtqueue_pairs with MQ or RSS", feature="CTRL_VQ"),
    ),
    config=Config,
    groups={
        "S_": "status of the link",
        "HDR_F_": "header flags",
        "HDR_GSO_": "segmentation",
        "HASH_TYPE_": "hash types",
        "HASH_REPORT_": "reported hashes",
        "HASH_TUNNEL_TYPE_": "tunnel types",
        "CTRL_": "control classes (and RSS_CTX_CTRL)",
        "CTRL_RX_": "commands of the class RX",
        "CTRL_MAC_": "commands of the class MAC",
        "CTRL_VLAN_": "commands of the class VLAN",
        "CTRL_ANNOUNCE_": "commands of the class ANNOUNCE",
        "CTRL_MQ_": "commands of the class MQ, and the range of VQ_PAIRS_SET",
        "CTRL_GUEST_OFFLOADS_": "commands of the class GUEST_OFFLOADS",
        "CTRL_NOTF_COAL_": "commands of the class NOTF_COAL",
        "CTRL_HASH_TUNNEL_": "commands of the class HASH_TUNNEL",
        "CTRL_STATS_": "commands of the class STATS",
        "RSS_CTX_CTRL_": "commands of the class RSS_CTX_CTRL",
        "OFFLOAD_": "bit numbers of CTRL_GUEST_OFFLOADS_SET",
        "STATS_TYPE_": "statistics",
        "FF_MASK_TYPE_": "what a flow filter's selector matches",
        "FF_ACTION_": "what a flow filter does, and its capability",
        "RESOURCE_OBJ_": "resource objects",
    },
    more=("virtio.spec.net_control", "virtio.spec.net_stats", "virtio.spec.net_flow"),
)
