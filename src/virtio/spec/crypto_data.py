"""Data queue requests of the crypto device (virtio 1.4, "Device Types / Crypto Device").

A request is an ``OpHeader``, fixed-length fields (flf), variable-length fields (vlf, readable ones first) and
an ``Inhdr``; without REVISION_1 the fixed-length fields are padded to 48 bytes.
Without a session, in stateless mode, a request carries the session's parameters: ``crypto_stateless``.
"""

from __future__ import annotations

from virtio.spec.crypto import (
    SERVICE_AEAD,
    SERVICE_AKCIPHER,
    SERVICE_CIPHER,
    SERVICE_HASH,
    SERVICE_IPSEC,
    SERVICE_MAC,
)
from virtio.spec.layout import Struct, array, le32, le64, u8

# Other numbers
CIPHER_ENCRYPT = SERVICE_CIPHER << 8 | 0
CIPHER_DECRYPT = SERVICE_CIPHER << 8 | 1
HASH = SERVICE_HASH << 8 | 0
MAC = SERVICE_MAC << 8 | 0
AEAD_ENCRYPT = SERVICE_AEAD << 8 | 0
AEAD_DECRYPT = SERVICE_AEAD << 8 | 1
AKCIPHER_ENCRYPT = SERVICE_AKCIPHER << 8 | 0
AKCIPHER_DECRYPT = SERVICE_AKCIPHER << 8 | 1
AKCIPHER_SIGN = SERVICE_AKCIPHER << 8 | 2
AKCIPHER_VERIFY = SERVICE_AKCIPHER << 8 | 3
IPSEC_OUTBOUND = SERVICE_IPSEC << 8 | 0
IPSEC_INBOUND = SERVICE_IPSEC << 8 | 1
FLAG_SESSION_MODE = 1
DATAQ_OP_SPEC_HDR_LEGACY = 48
SYM_DATA_REQ_HDR_SIZE = 40


# Device Operation / Data Virtqueue
class OpHeader(Struct, name="virtio_crypto_op_header"):
    """What a request begins with."""

    opcode = le32()
    algo = le32()
    session_id = le64()
    flag = le32()
    padding = le32()


class Inhdr(Struct, name="virtio_crypto_inhdr"):
    """What a request ends with."""

    status = u8()


# Device Operation / HASH Service Operation
class HashDataFlf(Struct, name="virtio_crypto_hash_data_flf"):
    """The fixed-length fields of a HASH request."""

    src_data_len = le32()
    hash_result_len = le32()


class HashDataVlf(Struct, name="virtio_crypto_hash_data_vlf", part="readable"):
    """The variable-length fields of a HASH request, as the device reads them."""

    src_data = u8("src_data_len")


class HashDataVlfResult(Struct, name="virtio_crypto_hash_data_vlf", part="writable"):
    """What a HASH request gives back."""

    hash_result = u8("hash_result_len")


# Device Operation / MAC Service Operation
class MacDataFlf(Struct, name="virtio_crypto_mac_data_flf"):
    """The fixed-length fields of a MAC request."""

    hdr = array(HashDataFlf)


class MacDataVlf(Struct, name="virtio_crypto_mac_data_vlf", part="readable"):
    """The variable-length fields of a MAC request, as the device reads them."""

    src_data = u8("src_data_len")


class MacDataVlfResult(Struct, name="virtio_crypto_mac_data_vlf", part="writable"):
    """What a MAC request gives back."""

    hash_result = u8("hash_result_len")


# Device Operation / Symmetric algorithms Operation
class CipherDataFlf(Struct, name="virtio_crypto_cipher_data_flf"):
    """The fixed-length fields of a CIPHER request."""

    iv_len = le32()
    src_data_len = le32()
    dst_data_len = le32()
    padding = le32()


class CipherDataVlf(Struct, name="virtio_crypto_cipher_data_vlf", part="readable"):
    """The variable-length fields of a CIPHER request, as the device reads them."""

    iv = u8("iv_len")
    src_data = u8("src_data_len")


class CipherDataVlfResult(Struct, name="virtio_crypto_cipher_data_vlf", part="writable"):
    """What a CIPHER request gives back."""

    dst_data = u8("dst_data_len")


class AlgChainDataFlf(Struct, name="virtio_crypto_alg_chain_data_flf"):
    """The fixed-length fields of an algorithm chain request."""

    iv_len = le32()
    src_data_len = le32()
    dst_data_len = le32()
    cipher_start_src_offset = le32()
    len_to_cipher = le32()
    hash_start_src_offset = le32()
    len_to_hash = le32()
    aad_len = le32()
    hash_result_len = le32()
    reserved = le32()


class AlgChainDataVlf(Struct, name="virtio_crypto_alg_chain_data_vlf", part="readable"):
    """The variable-length fields of an algorithm chain request, as the device reads them."""

    iv = u8("iv_len")
    src_data = u8("src_data_len")
    aad = u8("aad_len")


class AlgChainDataVlfResult(Struct, name="virtio_crypto_alg_chain_data_vlf", part="writable"):
    """What an algorithm chain request gives back."""

    dst_data = u8("dst_data_len")
    hash_result = u8("hash_result_len")


class SymDataFlf(Struct, name="virtio_crypto_sym_data_flf", part="readable"):
    """The fixed-length fields of a CIPHER or algorithm chain request."""

    op_type_flf = u8(SYM_DATA_REQ_HDR_SIZE)
    op_type = le32()
    padding = le32()


# Device Operation / AEAD Service Operation
class AeadDataFlf(Struct, name="virtio_crypto_aead_data_flf"):
    """The fixed-length fields of an AEAD request."""

    iv_len = le32()
    aad_len = le32()
    src_data_len = le32()
    dst_data_len = le32()
    tag_len = le32()
    reserved = le32()


class AeadDataVlf(Struct, name="virtio_crypto_aead_data_vlf", part="readable"):
    """The variable-length fields of an AEAD request, as the device reads them."""

    iv = u8("iv_len")
    src_data = u8("src_data_len")
    aad = u8("aad_len")


class AeadDataVlfResult(Struct, name="virtio_crypto_aead_data_vlf", part="writable"):
    """What an AEAD request gives back."""

    dst_data = u8("dst_data_len")


# Device Operation / AKCIPHER Service Operation
class AkcipherDataFlf(Struct, name="virtio_crypto_akcipher_data_flf"):
    """The fixed-length fields of an AKCIPHER request."""

    src_data_len = le32()
    dst_data_len = le32()


class AkcipherDataVlf(Struct, name="virtio_crypto_akcipher_data_vlf", part="readable"):
    """The variable-length fields of an AKCIPHER request, as the device reads them."""

    src_data = u8("src_data_len")


class AkcipherDataVlfResult(Struct, name="virtio_crypto_akcipher_data_vlf", part="writable"):
    """What an AKCIPHER request gives back."""

    dst_data = u8("dst_data_len")
