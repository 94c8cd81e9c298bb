"""Crypto (virtio 1.4, "Device Types / Crypto Device").

Sessions, the control queue's business, are here; requests of the data queues are in ``crypto_data``, IPsec is
in ``crypto_ipsec``.
"""

from __future__ import annotations

from virtio.spec.declare import DeviceType, Feature, Queue
from virtio.spec.layout import Struct, array, le32, le64, u8

# Feature bits
F_REVISION_1 = Feature(0, "the request format of revision 1")
F_CIPHER_STATELESS_MODE = Feature(1, "stateless requests of the CIPHER service", needs=("REVISION_1",))
F_HASH_STATELESS_MODE = Feature(2, "stateless requests of the HASH service", needs=("REVISION_1",))
F_MAC_STATELESS_MODE = Feature(3, "stateless requests of the MAC service", needs=("REVISION_1",))
F_AEAD_STATELESS_MODE = Feature(4, "stateless requests of the AEAD service", needs=("REVISION_1",))
F_AKCIPHER_STATELESS_MODE = Feature(5, "stateless requests of the AKCIPHER service", needs=("REVISION_1",))

# Other numbers
NO_CIPHER = 0
NO_HASH = 0
NO_MAC = 0
NO_AEAD = 0
NO_AKCIPHER = 0
OK = 0
ERR = 1
BADMSG = 2
NOTSUPP = 3
INVSESS = 4
NOSPC = 5
KEY_REJECTED = 6
IPSEC_SA_SOFT_EXPIRY = 7
CTRLQ_OP_SPEC_HDR_LEGACY = 56
ALG_CHAIN_SESS_OP_SPEC_HDR_SIZE = 16

# Services
SERVICE_CIPHER = 0
SERVICE_HASH = 1
SERVICE_MAC = 2
SERVICE_AEAD = 3
SERVICE_AKCIPHER = 4
SERVICE_IPSEC = 5

# Ciphers and their control opcodes
CIPHER_ARC4 = 1
CIPHER_AES_ECB = 2
CIPHER_AES_CBC = 3
CIPHER_AES_CTR = 4
CIPHER_DES_ECB = 5
CIPHER_DES_CBC = 6
CIPHER_3DES_ECB = 7
CIPHER_3DES_CBC = 8
CIPHER_3DES_CTR = 9
CIPHER_KASUMI_F8 = 10
CIPHER_SNOW3G_UEA2 = 11
CIPHER_AES_F8 = 12
CIPHER_AES_XTS = 13
CIPHER_ZUC_EEA3 = 14
CIPHER_CREATE_SESSION = SERVICE_CIPHER << 8 | 2
CIPHER_DESTROY_SESSION = SERVICE_CIPHER << 8 | 3

# Hashes and their control opcodes
HASH_MD5 = 1
HASH_SHA1 = 2
HASH_SHA_224 = 3
HASH_SHA_256 = 4
HASH_SHA_384 = 5
HASH_SHA_512 = 6
HASH_SHA3_224 = 7
HASH_SHA3_256 = 8
HASH_SHA3_384 = 9
HASH_SHA3_512 = 10
HASH_SHA3_SHAKE128 = 11
HASH_SHA3_SHAKE256 = 12
HASH_CREATE_SESSION = SERVICE_HASH << 8 | 2
HASH_DESTROY_SESSION = SERVICE_HASH << 8 | 3

# MACs and their control opcodes
MAC_HMAC_MD5 = 1
MAC_HMAC_SHA1 = 2
MAC_HMAC_SHA_224 = 3
MAC_HMAC_SHA_256 = 4
MAC_HMAC_SHA_384 = 5
MAC_HMAC_SHA_512 = 6
MAC_CMAC_3DES = 25
MAC_CMAC_AES = 26
MAC_KASUMI_F9 = 27
MAC_SNOW3G_UIA2 = 28
MAC_GMAC_AES = 41
MAC_GMAC_TWOFISH = 42
MAC_CBCMAC_AES = 49
MAC_CBCMAC_KASUMI_F9 = 50
MAC_XCBC_AES = 53
MAC_ZUC_EIA3 = 54
MAC_CREATE_SESSION = SERVICE_MAC << 8 | 2
MAC_DESTROY_SESSION = SERVICE_MAC << 8 | 3

# AEADs and their control opcodes
AEAD_GCM = 1
AEAD_CCM = 2
AEAD_CHACHA20_POLY1305 = 3
AEAD_CREATE_SESSION = SERVICE_AEAD << 8 | 2
AEAD_DESTROY_SESSION = SERVICE_AEAD << 8 | 3

# Asymmetric ciphers, their control opcodes and key types
AKCIPHER_RSA = 1
AKCIPHER_ECDSA = 2
AKCIPHER_CREATE_SESSION = SERVICE_AKCIPHER << 8 | 4
AKCIPHER_DESTROY_SESSION = SERVICE_AKCIPHER << 8 | 5
AKCIPHER_KEY_TYPE_PUBLIC = 1
AKCIPHER_KEY_TYPE_PRIVATE = 2
AKCIPHER_SESS_ALGO_SPEC_HDR_SIZE = 44

# Status of the device
S_HW_READY = 1 << 0

# Symmetric operations
SYM_ALG_CHAIN_ORDER_HASH_THEN_CIPHER = 1
SYM_ALG_CHAIN_ORDER_CIPHER_THEN_HASH = 2
SYM_HASH_MODE_PLAIN = 1
SYM_HASH_MODE_AUTH = 2
SYM_HASH_MODE_NESTED = 3
SYM_SESS_OP_SPEC_HDR_SIZE = 48
SYM_OP_NONE = 0
SYM_OP_CIPHER = 1
SYM_OP_ALGORITHM_CHAINING = 2

# RSA padding and hashes
RSA_RAW_PADDING = 0
RSA_PKCS1_PADDING = 1
RSA_NO_HASH = 0
RSA_MD2 = 1
RSA_MD3 = 2
RSA_MD4 = 3
RSA_MD5 = 4
RSA_SHA1 = 5
RSA_SHA256 = 6
RSA_SHA384 = 7
RSA_SHA512 = 8
RSA_SHA224 = 9

# Curves of ECDSA
CURVE_UNKNOWN = 0
CURVE_NIST_P192 = 1
CURVE_NIST_P224 = 2
CURVE_NIST_P256 = 3
CURVE_NIST_P384 = 4
CURVE_NIST_P521 = 5

# Directions
OP_ENCRYPT = 1
OP_DECRYPT = 2


# Device configuration layout
class Config(Struct, name="virtio_crypto_config"):
    """Configuration space."""

    status = le32(doc="bits S_*")
    max_dataqueues = le32()
    crypto_services = le32(doc="bits 1 << SERVICE_*")
    cipher_algo_l = le32(doc="bits 1 << CIPHER_*, 0 to 31")
    cipher_algo_h = le32(doc="bits 32 to 63")
    hash_algo = le32(doc="bits 1 << HASH_*")
    mac_algo_l = le32(doc="bits 1 << MAC_*, 0 to 31")
    mac_algo_h = le32(doc="bits 32 to 63")
    aead_algo = le32(doc="bits 1 << AEAD_*")
    max_cipher_key_len = le32(doc="bytes")
    max_auth_key_len = le32(doc="bytes")
    akcipher_algo = le32(doc="bits 1 << AKCIPHER_*")
    max_size = le64(doc="bytes of a request")


# Device Operation / Control Virtqueue
class CtrlHeader(Struct, name="virtio_crypto_ctrl_header"):
    """What a control request begins with."""

    opcode = le32(doc="one of the *_SESSION")
    algo = le32()
    flag = le32()
    reserved = le32()


# Device Operation / Control Virtqueue / Session operation
class CreateSessionInput(Struct, name="virtio_crypto_create_session_input"):
    """The answer to CREATE_SESSION."""

    session_id = le64()
    status = le32()
    padding = le32()


class DestroySessionFlf(Struct, name="virtio_crypto_destroy_session_flf", part="readable"):
    """DESTROY_SESSION."""

    session_id = le64()


class DestroySessionInput(Struct, name="virtio_crypto_destroy_session_input", part="writable"):
    """The answer to DESTROY_SESSION."""

    status = u8()


# Device Operation / Control Virtqueue / Session operation / Session operation: HASH session
class HashCreateSessionFlf(Struct, name="virtio_crypto_hash_create_session_flf", part="readable"):
    """HASH_CREATE_SESSION."""

    algo = le32()
    hash_result_len = le32()


# Device Operation / Control Virtqueue / Session operation / Session operation: MAC session
class MacCreateSessionFlf(Struct, name="virtio_crypto_mac_create_session_flf", part="readable"):
    """MAC_CREATE_SESSION."""

    algo = le32()
    hash_result_len = le32()
    auth_key_len = le32()
    padding = le32()


class MacCreateSessionVlf(Struct, name="virtio_crypto_mac_create_session_vlf", part="readable"):
    """The key of MAC_CREATE_SESSION."""

    auth_key = u8("auth_key_len")


# Device Operation / Control Virtqueue / Session operation / Session operation: Symmetric algorithms session
class CipherSessionFlf(Struct, name="virtio_crypto_cipher_session_flf", part="readable"):
    """A cipher of CIPHER_CREATE_SESSION."""

    algo = le32()
    key_len = le32()
    op = le32()
    padding = le32()


class CipherSessionVlf(Struct, name="virtio_crypto_cipher_session_vlf", part="readable"):
    """The key of a cipher."""

    cipher_key = u8("key_len")


class AlgChainSessionFlf(Struct, name="virtio_crypto_alg_chain_session_flf", part="readable"):
    """A cipher chained with a hash."""

    alg_chain_order = le32()
    hash_mode = le32()
    cipher_hdr = array(CipherSessionFlf)
    algo_flf = u8(ALG_CHAIN_SESS_OP_SPEC_HDR_SIZE)
    aad_len = le32()
    padding = le32()


class AlgChainSessionVlf(Struct, name="virtio_crypto_alg_chain_session_vlf", part="readable"):
    """The keys of a cipher and a hash."""

    cipher_key = u8("key_len")
    auth_key = u8("auth_key_len")


class SymCreateSessionFlf(Struct, name="virtio_crypto_sym_create_session_flf", part="readable"):
    """CIPHER_CREATE_SESSION."""

    op_flf = u8(SYM_SESS_OP_SPEC_HDR_SIZE)
    op_type = le32()
    padding = le32()


class SymCreateSessionVlf(Struct, name="virtio_crypto_sym_create_session_vlf", part="readable"):
    """The keys of CIPHER_CREATE_SESSION."""

    op_vlf = u8("vlf_len")


# Device Operation / Control Virtqueue / Session operation / Session operation: AEAD session
class AeadCreateSessionFlf(Struct, name="virtio_crypto_aead_create_session_flf", part="readable"):
    """AEAD_CREATE_SESSION."""

    algo = le32()
    key_len = le32()
    tag_len = le32()
    aad_len = le32()
    op = le32()
    padding = le32()


class AeadCreateSessionVlf(Struct, name="virtio_crypto_aead_create_session_vlf", part="readable"):
    """The key of AEAD_CREATE_SESSION."""

    key = u8("key_len")


# Device Operation / Control Virtqueue / Session operation / Session operation: AKCIPHER session
class RsaSessionPara(Struct, name="virtio_crypto_rsa_session_para"):
    """Parameters of RSA."""

    padding_algo = le32()
    hash_algo = le32()


class EcdsaSessionPara(Struct, name="virtio_crypto_ecdsa_session_para"):
    """Parameters of ECDSA."""

    curve_id = le32()


class AkcipherCreateSessionFlf(Struct, name="virtio_crypto_akcipher_create_session_flf", part="readable"):
    """AKCIPHER_CREATE_SESSION."""

    algo = le32()
    key_type = le32()
    key_len = le32()
    algo_flf = u8(AKCIPHER_SESS_ALGO_SPEC_HDR_SIZE)


class AkcipherCreateSessionVlf(Struct, name="virtio_crypto_akcipher_create_session_vlf", part="readable"):
    """The key of AKCIPHER_CREATE_SESSION."""

    key = u8("key_len")


DEVICE = DeviceType(
    __name__,
    id=20,
    title="Crypto Device",
    prefix="VIRTIO_CRYPTO_",
    queues=(
        Queue("dataq1", 0, repeat="dataq1 to dataqN, N = max_dataqueues"),
        Queue("controlq", 1, repeat="always last, at max_dataqueues"),
    ),
    config=Config,
    groups={
        "SERVICE_": "services",
        "CIPHER_": "ciphers and their control opcodes",
        "HASH_": "hashes and their control opcodes",
        "MAC_": "MACs and their control opcodes",
        "AEAD_": "AEADs and their control opcodes",
        "AKCIPHER_": "asymmetric ciphers, their control opcodes and key types",
        "S_": "status of the device",
        "SYM_": "symmetric operations",
        "RSA_": "RSA padding and hashes",
        "CURVE_": "curves of ECDSA",
        "OP_": "directions",
        "NO_": "none of a service's algorithms",
        "IPSEC_MODE_": "modes of IPsec",
        "IPSEC_DIR_": "directions of IPsec",
        "IPSEC_OPTION_": "bit numbers of the options of IPsec",
    },
    more=("virtio.spec.crypto_data", "virtio.spec.crypto_stateless", "virtio.spec.crypto_ipsec"),
)
