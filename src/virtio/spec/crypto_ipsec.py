"""IPsec of the crypto device.

Virtio 1.4, "Device Types / Crypto Device / Device Operation / IPSEC Service Operation".
"""

from __future__ import annotations

from virtio.spec.layout import Struct, array, le16, le32, le64, u8

# Other numbers
IPSEC_RESOURCE_CAP = 0x0800
IPSEC_SA_CAP = 0x0801
RESOURCE_OBJ_IPSEC_OUTBOUND_SA = 0x0200
RESOURCE_OBJ_IPSEC_INBOUND_SA = 0x0201

# Modes
IPSEC_MODE_ESP_TUNNEL = 1
IPSEC_MODE_ESP_TRANSPORT = 2
IPSEC_MODE_AH_TUNNEL = 3
IPSEC_MODE_AH_TRANSPORT = 4

# Directions
IPSEC_DIR_OUTBOUND = 1
IPSEC_DIR_INBOUND = 2

# Bit numbers of the options (without OPTION_ in the specification)
IPSEC_OPTION_ESN = 0
IPSEC_OPTION_COPY_DSCP = 2
IPSEC_OPTION_DEC_TTL = 3
IPSEC_OPTION_COPY_DF = 4
IPSEC_OPTION_ECN = 5
IPSEC_OPTION_SA_LIFETIME = 6


# VIRTIO_CRYPTO_IPSEC_RESOURCE_CAP
class IpsecResourceCap(Struct, name="virtio_crypto_ipsec_resource_cap"):
    """How many security associations there may be."""

    inb_sa_limit = le32()
    outb_sa_limit = le32()


# VIRTIO_CRYPTO_IPSEC_SA_CAP
class IpsecModeCap(Struct, name="virtio_crypto_ipsec_mode_cap"):
    """What a mode can do."""

    mode = u8()
    reserved = u8(3)
    max_replay_win_sz = le32()
    options = le32()
    reserved1 = le32()
    cipher_algo = le64()
    hmac_algo = le64()
    aead_algo = le32()
    max_cipher_key_len = le32()
    max_auth_key_len = le32()


class IpsecSaCapData(Struct, name="virtio_crypto_ipsec_sa_cap_data"):
    """What each mode can do."""

    count = u8()
    reserved = u8(7)
    cap_mode = array(IpsecModeCap, "...")


# Device Operation / IPsec Service Operation / Resource objects / VIRTIO-CRYPTO-RESOURCE-OBJ-IPSEC-OUTBOUND-SA
class InAddr(Struct, name="in_addr"):
    """An IPv4 address."""

    s_addr = le32()


class In6Addr(Struct, name="in6_addr"):
    """An IPv6 address."""

    s6_u8 = u8(16)


class IpsecTunnelIpv4(Struct, name="virtio_crypto_ipsec_tunnel_param.ipv4"):
    """An IPv4 tunnel."""

    src_ip = array(InAddr)
    dst_ip = array(InAddr)
    dscp = u8()
    df = u8()
    ttl = u8()
    reserved1 = u8()


class IpsecTunnelIpv6(Struct, name="virtio_crypto_ipsec_tunnel_param.ipv6"):
    """An IPv6 tunnel."""

    src_addr = array(In6Addr)
    dst_addr = array(In6Addr)
    flabel = le32()
    hlimit = u8()
    dscp = u8()
    reserved2 = u8(2)


class IpsecTunnelParam(Struct, name="virtio_crypto_ipsec_tunnel_param"):
    """A tunnel."""

    type = u8(doc="IPv4 or IPv6")
    reserved = u8(3)
    ip = u8(IpsecTunnelIpv6.SIZE, doc="IpsecTunnelIpv4 or IpsecTunnelIpv6, by type")


class IpsecLifetime(Struct, name="virtio_crypto_ipsec_lifetime"):
    """When a security association ends."""

    packets_soft_limit = le64()
    bytes_soft_limit = le64()
    packets_hard_limit = le64()
    bytes_hard_limit = le64()


class ResourceObjIpsecSa256bKeyCipherKey(
    Struct, name="virtio_crypto_resource_obj_ipsec_sa_256b_key.cipher_key"
):
    """The key of the cipher."""

    length = le16()
    reserved1 = le16()
    data = u8(32)


class ResourceObjIpsecSa256bKeyAuthKey(Struct, name="virtio_crypto_resource_obj_ipsec_sa_256b_key.auth_key"):
    """The key of the authentication."""

    length = le16()
    reserved2 = le16()
    data = u8(32)


class ResourceObjIpsecSa256bKey(Struct, name="virtio_crypto_resource_obj_ipsec_sa_256b_key"):
    """A security association."""

    mode = u8()
    direction = u8()
    reserved = u8(2)
    obj_id = le32()
    spi = le32()
    salt = le32()
    options = le64()
    param = array(IpsecTunnelParam)
    udp_sport = le16()
    udp_dport = le16()
    replay_win_sz = le32()
    cipher_algo = le64()
    cipher_key = array(ResourceObjIpsecSa256bKeyCipherKey)
    auth_algo = le64()
    auth_key = array(ResourceObjIpsecSa256bKeyAuthKey)
    life = array(IpsecLifetime)


# Data processing
class IpsecDataFlf(Struct, name="virtio_crypto_ipsec_data_flf"):
    """An IPsec request."""

    src_data_len = le32()
    dst_data_len = le32()


class IpsecDataVlf(Struct, name="virtio_crypto_ipsec_data_vlf", part="readable"):
    """Its packet."""

    src_data = u8("src_data_len")


class IpsecDataVlfResult(Struct, name="virtio_crypto_ipsec_data_vlf", part="writable"):
    """The packet made of it."""

    dst_data = u8("dst_data_len")
