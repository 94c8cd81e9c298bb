"""Every vhost-user message, declared: its number, payload, reply, descriptors and the feature it needs.

Two tables, `FRONTEND_REQUESTS` (sent by the front-end on the main channel) and `BACKEND_REQUESTS` (sent by
the back-end on the channel of SET_BACKEND_REQ_FD), say all that `connection` must know to check a message
before anything acts on it. Numbers and layouts are those of QEMU's docs/interop/vhost-user.rst.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, TypeAlias

from virtio.vhost_user.payloads import (
    ConfigSpace,
    Inflight,
    Iotlb,
    Log,
    MemoryTable,
    MMap,
    Number,
    Opaque,
    Payload,
    ShmemSizes,
    SingleRegion,
    StateTransfer,
    Uuid,
    VringAddress,
    VringArea,
    VringFd,
    VringState,
)

__all__ = [
    "BACKEND_REQUESTS",
    "FRONTEND_REQUESTS",
    "F_LOG_ALL",
    "F_PROTOCOL_FEATURES",
    "NEED_REPLY",
    "REPLY",
    "VERSION",
    "VERSION_MASK",
    "BackendRequest",
    "FrontendRequest",
    "Kind",
    "ProtocolFeature",
    "RequestTable",
    "feature_names",
]

VERSION = 1
VERSION_MASK = 0b11
REPLY = 1 << 2
NEED_REPLY = 1 << 3

F_LOG_ALL = 26
"""Feature bit: the front-end wants writes to guest memory logged."""
F_PROTOCOL_FEATURES = 30
"""Feature bit: the protocol features below may be negotiated."""


class ProtocolFeature(IntEnum):
    """The bits of GET_PROTOCOL_FEATURES and SET_PROTOCOL_FEATURES."""

    MQ = 0
    LOG_SHMFD = 1
    RARP = 2
    REPLY_ACK = 3
    MTU = 4
    BACKEND_REQ = 5
    CROSS_ENDIAN = 6
    CRYPTO_SESSION = 7
    PAGEFAULT = 8
    CONFIG = 9
    BACKEND_SEND_FD = 10
    HOST_NOTIFIER = 11
    INFLIGHT_SHMFD = 12
    RESET_DEVICE = 13
    INBAND_NOTIFICATIONS = 14
    CONFIGURE_MEM_SLOTS = 15
    STATUS = 16
    XEN_MMAP = 17
    SHARED_OBJECT = 18
    DEVICE_STATE = 19
    GET_VRING_BASE_INFLIGHT = 20
    GPA_ADDRESSES = 21
    SHMEM = 22

    @property
    def mask(self) -> int:
        """The feature as a bit mask."""
        return 1 << self


def feature_names(mask: int) -> list[str]:
    """The names of the protocol features in ``mask``, unknown bits as ``bit N``."""
    known = {int(feature): feature.name for feature in ProtocolFeature}
    return [known.get(bit, f"bit {bit}") for bit in range(mask.bit_length()) if mask >> bit & 1]


class FrontendRequest(IntEnum):
    """What a front-end asks of a back-end."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_LOG_BASE = 6
    SET_LOG_FD = 7
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    SEND_RARP = 19
    NET_SET_MTU = 20
    SET_BACKEND_REQ_FD = 21
    IOTLB_MSG = 22
    SET_VRING_ENDIAN = 23
    GET_CONFIG = 24
    SET_CONFIG = 25
    CREATE_CRYPTO_SESSION = 26
    CLOSE_CRYPTO_SESSION = 27
    POSTCOPY_ADVISE = 28
    POSTCOPY_LISTEN = 29
    POSTCOPY_END = 30
    GET_INFLIGHT_FD = 31
    SET_INFLIGHT_FD = 32
    GPU_SET_SOCKET = 33
    RESET_DEVICE = 34
    VRING_KICK = 35
    GET_MAX_MEM_SLOTS = 36
    ADD_MEM_REG = 37
    REM_MEM_REG = 38
    SET_STATUS = 39
    GET_STATUS = 40
    GET_SHARED_OBJECT = 41
    SET_DEVICE_STATE_FD = 42
    CHECK_DEVICE_STATE = 43
    GET_SHMEM_CONFIG = 44


class BackendRequest(IntEnum):
    """What a back-end asks of a front-end, on a channel of its own."""

    IOTLB_MSG = 1
    CONFIG_CHANGE_MSG = 2
    VRING_HOST_NOTIFIER_MSG = 3
    VRING_CALL = 4
    VRING_ERR = 5
    SHARED_OBJECT_ADD = 6
    SHARED_OBJECT_REMOVE = 7
    SHARED_OBJECT_LOOKUP = 8
    SHMEM_MAP = 9
    SHMEM_UNMAP = 10


PayloadType: TypeAlias = type[Payload]

PER_REGION = -1
"""As many descriptors as the memory table has regions (none at all is judged by the session)."""
PER_VRING = -2
"""One descriptor unless the payload's bit 8 says otherwise."""


class Kind(NamedTuple):
    """What one request looks like and is answered with."""

    request: FrontendRequest | BackendRequest
    payload: PayloadType | None = None
    reply: PayloadType | None = None
    """Its own reply's payload. Without one the request is acknowledged, if that was agreed and asked for."""
    fds: tuple[int, ...] = (0,)
    """How many descriptors may come with it; or PER_REGION, PER_VRING."""
    feature: ProtocolFeature | None = None
    """The protocol feature that must have been negotiated."""
    reply_fds: int = 0
    """How many descriptors its reply may carry at most."""
    empty_reply: bool = False
    """Whether a reply without payload is one too: a refusal, or an old back-end's way."""

    @property
    def name(self) -> str:
        """The request's name in the protocol."""
        return self.request.name


RequestTable: TypeAlias = dict[int, Kind]

_F = FrontendRequest
_B = BackendRequest
_P = ProtocolFeature

FRONTEND_REQUESTS: RequestTable = {
    int(kind.request): kind
    for kind in (
        Kind(_F.GET_FEATURES, reply=Number),
        Kind(_F.SET_FEATURES, Number),
        Kind(_F.SET_OWNER),
        Kind(_F.RESET_OWNER),
        Kind(_F.SET_MEM_TABLE, MemoryTable, fds=(PER_REGION,)),
        Kind(_F.SET_LOG_BASE, Log, reply=Number, fds=(1,), feature=_P.LOG_SHMFD, empty_reply=True),
        Kind(_F.SET_LOG_FD, fds=(1,), feature=_P.LOG_SHMFD),
        Kind(_F.SET_VRING_NUM, VringState),
        Kind(_F.SET_VRING_ADDR, VringAddress),
        Kind(_F.SET_VRING_BASE, VringState),
        Kind(_F.GET_VRING_BASE, VringState, reply=VringState),
        Kind(_F.SET_VRING_KICK, VringFd, fds=(PER_VRING,)),
        Kind(_F.SET_VRING_CALL, VringFd, fds=(PER_VRING,)),
        Kind(_F.SET_VRING_ERR, VringFd, fds=(PER_VRING,)),
        Kind(_F.GET_PROTOCOL_FEATURES, reply=Number),
        Kind(_F.SET_PROTOCOL_FEATURES, Number),
        Kind(_F.GET_QUEUE_NUM, reply=Number, feature=_P.MQ),
        Kind(_F.SET_VRING_ENABLE, VringState),
        Kind(_F.SEND_RARP, Number, feature=_P.RARP),
        Kind(_F.NET_SET_MTU, Number, feature=_P.MTU),
        Kind(_F.SET_BACKEND_REQ_FD, fds=(1,), feature=_P.BACKEND_REQ),
        Kind(_F.IOTLB_MSG, Iotlb, reply=Number),
        Kind(_F.SET_VRING_ENDIAN, VringState, feature=_P.CROSS_ENDIAN),
        Kind(_F.GET_CONFIG, ConfigSpace, reply=ConfigSpace, feature=_P.CONFIG, empty_reply=True),
        Kind(_F.SET_CONFIG, ConfigSpace, feature=_P.CONFIG),
        Kind(_F.CREATE_CRYPTO_SESSION, Opaque, reply=Opaque, feature=_P.CRYPTO_SESSION),
        Kind(_F.CLOSE_CRYPTO_SESSION, Number, feature=_P.CRYPTO_SESSION),
        Kind(_F.POSTCOPY_ADVISE, reply=Opaque, feature=_P.PAGEFAULT, reply_fds=1, empty_reply=True),
        Kind(_F.POSTCOPY_LISTEN, feature=_P.PAGEFAULT),
        Kind(_F.POSTCOPY_END, reply=Number, feature=_P.PAGEFAULT),
        Kind(_F.GET_INFLIGHT_FD, Inflight, reply=Inflight, feature=_P.INFLIGHT_SHMFD, reply_fds=1),
        Kind(_F.SET_INFLIGHT_FD, Inflight, fds=(1,), feature=_P.INFLIGHT_SHMFD),
        Kind(_F.GPU_SET_SOCKET, fds=(1,)),
        Kind(_F.RESET_DEVICE, feature=_P.RESET_DEVICE),
        Kind(_F.VRING_KICK, VringState, feature=_P.INBAND_NOTIFICATIONS),
        Kind(_F.GET_MAX_MEM_SLOTS, reply=Number, feature=_P.CONFIGURE_MEM_SLOTS),
        # Without its descriptor the message is let through, so that the cause can be named: see memory.py.
        Kind(_F.ADD_MEM_REG, SingleRegion, fds=(0, 1), feature=_P.CONFIGURE_MEM_SLOTS),
        # None is right; front-ends that send one are known, and are to be borne with.
        Kind(_F.REM_MEM_REG, SingleRegion, fds=(0, 1), feature=_P.CONFIGURE_MEM_SLOTS),
        Kind(_F.SET_STATUS, Number, feature=_P.STATUS),
        Kind(_F.GET_STATUS, reply=Number, feature=_P.STATUS),
        Kind(_F.GET_SHARED_OBJECT, Uuid, reply=Opaque, feature=_P.SHARED_OBJECT, reply_fds=1),
        Kind(
            _F.SET_DEVICE_STATE_FD,
            StateTransfer,
            reply=Number,
            fds=(1,),
            feature=_P.DEVICE_STATE,
            reply_fds=1,
        ),
        Kind(_F.CHECK_DEVICE_STATE, reply=Number, feature=_P.DEVICE_STATE),
        Kind(_F.GET_SHMEM_CONFIG, reply=ShmemSizes, feature=_P.SHMEM),
    )
}
"""By number, what a front-end may send."""

BACKEND_REQUESTS: RequestTable = {
    int(kind.request): kind
    for kind in (
        Kind(_B.IOTLB_MSG, Iotlb),
        Kind(_B.CONFIG_CHANGE_MSG, feature=_P.CONFIG),
        Kind(_B.VRING_HOST_NOTIFIER_MSG, VringArea, fds=(0, 1), feature=_P.HOST_NOTIFIER),
        Kind(_B.VRING_CALL, VringState, feature=_P.INBAND_NOTIFICATIONS),
        Kind(_B.VRING_ERR, VringState, feature=_P.INBAND_NOTIFICATIONS),
        Kind(_B.SHARED_OBJECT_ADD, Uuid, feature=_P.SHARED_OBJECT),
        Kind(_B.SHARED_OBJECT_REMOVE, Uuid, feature=_P.SHARED_OBJECT),
        Kind(_B.SHARED_OBJECT_LOOKUP, Uuid, reply=Number, feature=_P.SHARED_OBJECT, reply_fds=1),
        Kind(_B.SHMEM_MAP, MMap, fds=(1,), feature=_P.SHMEM),
        Kind(_B.SHMEM_UNMAP, MMap, feature=_P.SHMEM),
    )
}
"""By number, what a back-end may send on its own channel."""
