"""Stateless requests of the crypto device (virtio 1.4, "Device Types / Crypto Device").

As those of ``crypto_data``, with the session's parameters among the fixed-length fields and its key among the
variable-length ones.
"""

from __future__ import annotations

from virtio.spec.layout import Struct, array, le32, u8

# Other numbers
SYM_DATE_REQ_HDR_STATELESS_SIZE = 72


# Device Operation / HASH Service Operation
class HashDataFlfStatelessSessPara(Struct, name="virtio_crypto_hash_data_flf_stateless.sess_para"):
    """The session that a stateless HASH request carries."""

    algo = le32()


class HashDataFlfStateless(Struct, name="virtio_crypto_hash_data_flf_stateless"):
    """The fixed-length fields of a stateless HASH request."""

    sess_para = array(HashDataFlfStatelessSessPara)
    src_data_len = le32()
    hash_result_len = le32()
    reserved = le32()


class HashDataVlfStateless(Struct, name="virtio_crypto_hash_data_vlf_stateless", part="readable"):
    """The variable-length fields of a stateless HASH request, as the device reads them."""

    src_data = u8("src_data_len")


class HashDataVlfStatelessResult(Struct, name="virtio_crypto_hash_data_vlf_stateless", part="writable"):
    """What a stateless HASH request gives back."""

    hash_result = u8("hash_result_len")


# Device Operation / MAC Service Operation
class MacDataFlfStatelessSessPara(Struct, name="virtio_crypto_mac_data_flf_stateless.sess_para"):
    """The session that a stateless MAC request carries."""

    algo = le32()
    auth_key_len = le32()


class MacDataFlfStateless(Struct, name="virtio_crypto_mac_data_flf_stateless"):
    """The fixed-length fields of a stateless MAC request."""

    sess_para = array(MacDataFlfStatelessSessPara)
    src_data_len = le32()
    hash_result_len = le32()


class MacDataVlfStateless(Struct, name="virtio_crypto_mac_data_vlf_stateless", part="readable"):
    """The variable-length fields of a stateless MAC request, as the device reads them."""

    auth_key = u8("auth_key_len")
    src_data = u8("src_data_len")


class MacDataVlfStatelessResult(Struct, name="virtio_crypto_mac_data_vlf_stateless", part="writable"):
    """What a stateless MAC request gives back."""

    hash_result = u8("hash_result_len")


# Device Operation / Symmetric algorithms Operation
class CipherDataFlfStatelessSessPara(Struct, name="virtio_crypto_cipher_data_flf_stateless.sess_para"):
    """The session that a stateless CIPHER request carries."""

    algo = le32()
    key_len = le32()
    op = le32()


class CipherDataFlfStateless(Struct, name="virtio_crypto_cipher_data_flf_stateless"):
    """The fixed-length fields of a stateless CIPHER request."""

    sess_para = array(CipherDataFlfStatelessSessPara)
    iv_len = le32()
    src_data_len = le32()
    dst_data_len = le32()


class CipherDataVlfStateless(Struct, name="virtio_crypto_cipher_data_vlf_stateless", part="readable"):
    """The variable-length fields of a stateless CIPHER request, as the device reads them."""

    cipher_key = u8("key_len")
    iv = u8("iv_len")
    src_data = u8("src_data_len")


class CipherDataVlfStatelessResult(Struct, name="virtio_crypto_cipher_data_vlf_stateless", part="writable"):
    """What a stateless CIPHER request gives back."""

    dst_data = u8("dst_data_len")


class AlgChainDataFlfStatelessSessParaCipher(
    Struct, name="virtio_crypto_alg_chain_data_flf_stateless.sess_para.cipher"
):
    """The cipher in the session of a stateless algorithm chain request."""

    algo = le32()
    key_len = le32()
    op = le32()


class AlgChainDataFlfStatelessSessParaHash(
    Struct, name="virtio_crypto_alg_chain_data_flf_stateless.sess_para.hash"
):
    """The hash in the session of a stateless algorithm chain request."""

    algo = le32()
    auth_key_len = le32()
    hash_mode = le32()


class AlgChainDataFlfStatelessSessPara(Struct, name="virtio_crypto_alg_chain_data_flf_stateless.sess_para"):
    """The session that a stateless algorithm chain request carries."""

    alg_chain_order = le32()
    aad_len = le32()
    cipher = array(AlgChainDataFlfStatelessSessParaCipher)
    hash = array(AlgChainDataFlfStatelessSessParaHash)


class AlgChainDataFlfStateless(Struct, name="virtio_crypto_alg_chain_data_flf_stateless"):
    """The fixed-length fields of a stateless algorithm chain request."""

    sess_para = array(AlgChainDataFlfStatelessSessPara)
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


class AlgChainDataVlfStateless(Struct, name="virtio_crypto_alg_chain_data_vlf_stateless", part="readable"):
    """The variable-length fields of a stateless algorithm chain request, as the device reads them."""

    cipher_key = u8("key_len")
    auth_key = u8("auth_key_len")
    iv = u8("iv_len")
    aad = u8("aad_len")
    src_data = u8("src_data_len")


class AlgChainDataVlfStatelessResult(
    Struct, name="virtio_crypto_alg_chain_data_vlf_stateless", part="writable"
):
    """What a stateless algorithm chain request gives back."""

    dst_data = u8("dst_data_len")
    hash_result = u8("hash_result_len")


class SymDataFlfStateless(Struct, name="virtio_crypto_sym_data_flf_stateless", part="readable"):
    """The fixed-length fields of a stateless CIPHER or algorithm chain request."""

    op_type_flf = u8(SYM_DATE_REQ_HDR_STATELESS_SIZE, doc="by op_type")
    op_type = le32(doc="one of SYM_OP_*")


# Device Operation / AEAD Service Operation
class AeadDataFlfStatelessSessPara(Struct, name="virtio_crypto_aead_data_flf_stateless.sess_para"):
    """The session that a stateless AEAD request carries."""

    algo = le32()
    key_len = le32()
    op = le32()


class AeadDataFlfStateless(Struct, name="virtio_crypto_aead_data_flf_stateless"):
    """The fixed-length fields of a stateless AEAD request."""

    sess_para = array(AeadDataFlfStatelessSessPara)
    iv_len = le32()
    tag_len = le32()
    aad_len = le32()
    src_data_len = le32()
    dst_data_len = le32()


class AeadDataVlfStateless(Struct, name="virtio_crypto_aead_data_vlf_stateless", part="readable"):
    """The variable-length fields of a stateless AEAD request, as the device reads them."""

    key = u8("key_len")
    iv = u8("iv_len")
    src_data = u8("src_data_len")
    aad = u8("aad_len")


class AeadDataVlfStatelessResult(Struct, name="virtio_crypto_aead_data_vlf_stateless", part="writable"):
    """What a stateless AEAD request gives back."""

    dst_data = u8("dst_data_len")


# Device Operation / AKCIPHER Service Operation
class AkcipherDataFlfStatelessSessPara(Struct, name="virtio_crypto_akcipher_data_flf_stateless.sess_para"):
    """The session that a stateless AKCIPHER request carries."""

    algo = le32()
    key_type = le32()
    key_len = le32()
    parameters = le32(2, doc="RsaSessionPara or EcdsaSessionPara, by algo")


class AkcipherDataFlfStateless(Struct, name="virtio_crypto_akcipher_data_flf_stateless"):
    """The fixed-length fields of a stateless AKCIPHER request."""

    sess_para = array(AkcipherDataFlfStatelessSessPara)
    src_data_len = le32()
    dst_data_len = le32()


class AkcipherDataVlfStateless(Struct, name="virtio_crypto_akcipher_data_vlf_stateless", part="readable"):
    """The variable-length fields of a stateless AKCIPHER request, as the device reads them."""

    akcipher_key = u8("key_len")
    src_data = u8("src_data_len")


class AkcipherDataVlfStatelessResult(
    Struct, name="virtio_crypto_akcipher_data_vlf_stateless", part="writable"
):
    """What a stateless AKCIPHER request gives back."""

    dst_data = u8("dst_data_len")
