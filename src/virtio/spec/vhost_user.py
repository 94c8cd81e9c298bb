"""vhost-user as data: its messages, its protocol features, and what each needs (QEMU's vhost-user.rst).

For reading and printing; the code that speaks the protocol is ``virtio.vhost_user``. Integers are in the
host's byte order. A payload is written as its fields in order; ``ack`` as a reply means none, unless
REPLY_ACK is negotiated and the request asks for one: then a u64, 0 for success.
"""

from __future__ import annotations

from typing import NamedTuple

from virtio.errors import UsageError

__all__ = [
    "BACKEND",
    "FRONTEND",
    "F_LOG_ALL",
    "F_PROTOCOL_FEATURES",
    "HEADER",
    "PROTOCOL_FEATURES",
    "Message",
]
__all__ += ["PAYLOADS", "find"]

F_LOG_ALL = 26
"""Feature bit of vhost: log writes to guest memory."""
F_PROTOCOL_FEATURES = 30
"""Feature bit that virtio never negotiates and vhost-user uses for its protocol features."""

PROTOCOL_FEATURES: dict[str, int] = {
    "MQ": 0,
    "LOG_SHMFD": 1,
    "RARP": 2,
    "REPLY_ACK": 3,
    "MTU": 4,
    "BACKEND_REQ": 5,
    "CROSS_ENDIAN": 6,
    "CRYPTO_SESSION": 7,
    "PAGEFAULT": 8,
    "CONFIG": 9,
    "BACKEND_SEND_FD": 10,
    "HOST_NOTIFIER": 11,
    "INFLIGHT_SHMFD": 12,
    "RESET_DEVICE": 13,
    "INBAND_NOTIFICATIONS": 14,
    "CONFIGURE_MEM_SLOTS": 15,
    "STATUS": 16,
    "XEN_MMAP": 17,
    "SHARED_OBJECT": 18,
    "DEVICE_STATE": 19,
    "GET_VRING_BASE_INFLIGHT": 20,
    "GPA_ADDRESSES": 21,
    "SHMEM": 22,
}
"""Bit numbers of the protocol features by name (``VHOST_USER_PROTOCOL_F_``)."""

HEADER = "u32 request, u32 flags (bits 0-1 version 1, bit 2 reply, bit 3 need_reply), u32 payload bytes"

PAYLOADS: dict[str, str] = {
    "u64": "u64 value",
    "state": "u32 index, u32 num",
    "addr": "u32 index, u32 flags (bit 0: log), u64 descriptors, u64 used, u64 available, u64 log",
    "table": "u32 count, u32 padding, then per region: u64 guest address, u64 size, u64 user address, "
    "u64 mmap offset; at most 8",
    "region": "u64 padding, u64 guest address, u64 size, u64 user address, u64 mmap offset",
    "fd": "u64: bits 0-7 index, bit 8: no descriptor comes with it",
    "log": "u64 size, u64 offset; without LOG_SHMFD a u64 address",
    "iotlb": "u64 iova, u64 size, u64 user address, u8 permission, u8 type (1 miss, 2 update, "
    "3 invalidate, 4 access failure)",
    "config": "u32 offset, u32 size, u32 flags (0 from the driver, 1 from migration), bytes",
    "inflight": "u64 mmap size, u64 mmap offset, u16 queues, u16 queue size",
    "crypto": "a crypto session's description",
    "uuid": "16 bytes of UUID",
    "transfer": "u32 direction (0 save, 1 load), u32 phase (0 stopped)",
    "area": "u64 index and flags, u64 size, u64 offset",
    "mmap": "u8 shmid, 7 bytes padding, u64 fd offset, u64 shm offset, u64 length, u64 flags (1: writable)",
    "shmem": "u32 count, u32 padding, 256 times u64 size",
}
"""The layouts of the payloads."""


class Message(NamedTuple):
    """A request: who sends it, what it carries, what comes back, and when it may be sent.

    ``payload`` and ``reply`` are keys of ``PAYLOADS``, "" for nothing; ``reply`` may be "ack". ``fds`` says
    which descriptors come with it, ``needs`` which protocol feature or feature bit it belongs to.
    """

    sender: str
    id: int
    name: str
    payload: str = ""
    reply: str = "ack"
    fds: str = ""
    needs: str = ""
    note: str = ""


def _front(
    id: int, name: str, payload: str = "", reply: str = "ack", fds: str = "", needs: str = "", note: str = ""
) -> Message:
    return Message("front-end", id, name, payload, reply, fds, needs, note)


def _back(
    id: int, name: str, payload: str = "", reply: str = "ack", fds: str = "", needs: str = "", note: str = ""
) -> Message:
    return Message("back-end", id, name, payload, reply, fds, needs, note)


_BIT_30 = "feature bit 30"

FRONTEND: tuple[Message, ...] = (
    _front(1, "GET_FEATURES", reply="u64"),
    _front(2, "SET_FEATURES", "u64"),
    _front(3, "SET_OWNER"),
    _front(4, "RESET_OWNER", note="deprecated"),
    _front(
        5,
        "SET_MEM_TABLE",
        "table",
        fds="one per region, in the same order",
        note="during postcopy the regions come back with the addresses the back-end mapped them at",
    ),
    _front(6, "SET_LOG_BASE", "log", reply="u64", fds="the log's memory, with LOG_SHMFD"),
    _front(7, "SET_LOG_FD", fds="an eventfd"),
    _front(8, "SET_VRING_NUM", "state", note="num is the size of the virtqueue"),
    _front(9, "SET_VRING_ADDR", "addr", note="user addresses; used comes before available"),
    _front(
        10,
        "SET_VRING_BASE",
        "state",
        note="num: split, the available index; packed, bits 0-14 available index, 15 its wrap counter, "
        "16-30 used index, 31 its wrap counter",
    ),
    _front(11, "GET_VRING_BASE", "state", reply="state", note="stops the ring"),
    _front(12, "SET_VRING_KICK", "fd", fds="an eventfd, unless bit 8"),
    _front(13, "SET_VRING_CALL", "fd", fds="an eventfd, unless bit 8"),
    _front(14, "SET_VRING_ERR", "fd", fds="an eventfd, unless bit 8"),
    _front(15, "GET_PROTOCOL_FEATURES", reply="u64", needs=_BIT_30),
    _front(16, "SET_PROTOCOL_FEATURES", "u64", needs=_BIT_30),
    _front(17, "GET_QUEUE_NUM", reply="u64", needs="MQ"),
    _front(18, "SET_VRING_ENABLE", "state", needs=_BIT_30, note="num is 1 to enable, 0 to disable"),
    _front(19, "SEND_RARP", "u64", needs="RARP", note="the MAC address is in the first 6 bytes"),
    _front(20, "NET_SET_MTU", "u64", needs="MTU"),
    _front(21, "SET_BACKEND_REQ_FD", fds="a socket for the back-end's own requests", needs="BACKEND_REQ"),
    _front(22, "IOTLB_MSG", "iotlb", reply="u64", needs="ACCESS_PLATFORM"),
    _front(23, "SET_VRING_ENDIAN", "state", needs="CROSS_ENDIAN", note="num is 0 for little, 1 for big"),
    _front(24, "GET_CONFIG", "config", reply="config", needs="CONFIG", note="an empty reply says it failed"),
    _front(25, "SET_CONFIG", "config", needs="CONFIG"),
    _front(26, "CREATE_CRYPTO_SESSION", "crypto", reply="crypto", needs="CRYPTO_SESSION"),
    _front(27, "CLOSE_CRYPTO_SESSION", "u64", needs="CRYPTO_SESSION"),
    _front(28, "POSTCOPY_ADVISE", reply="", needs="PAGEFAULT", note="the reply carries a userfaultfd"),
    _front(29, "POSTCOPY_LISTEN", needs="PAGEFAULT"),
    _front(30, "POSTCOPY_END", reply="u64", needs="PAGEFAULT"),
    _front(
        31,
        "GET_INFLIGHT_FD",
        "inflight",
        reply="inflight",
        needs="INFLIGHT_SHMFD",
        note="the reply carries the buffer",
    ),
    _front(32, "SET_INFLIGHT_FD", "inflight", fds="the buffer", needs="INFLIGHT_SHMFD"),
    _front(33, "GPU_SET_SOCKET", fds="a socket", note="vhost-user-gpu"),
    _front(34, "RESET_DEVICE", needs="RESET_DEVICE"),
    _front(35, "VRING_KICK", "state", needs="INBAND_NOTIFICATIONS"),
    _front(36, "GET_MAX_MEM_SLOTS", reply="u64", needs="CONFIGURE_MEM_SLOTS"),
    _front(37, "ADD_MEM_REG", "region", fds="the region's memory", needs="CONFIGURE_MEM_SLOTS"),
    _front(
        38,
        "REM_MEM_REG",
        "region",
        needs="CONFIGURE_MEM_SLOTS",
        note="found by guest address, user address and size",
    ),
    _front(39, "SET_STATUS", "u64", needs="STATUS"),
    _front(40, "GET_STATUS", reply="u64", needs="STATUS"),
    _front(
        41, "GET_SHARED_OBJECT", "uuid", reply="", needs="SHARED_OBJECT", note="the reply carries a dma-buf"
    ),
    _front(
        42,
        "SET_DEVICE_STATE_FD",
        "transfer",
        reply="u64",
        fds="a pipe or socket",
        needs="DEVICE_STATE",
        note="reply: bits 0-7 error, bit 8: no descriptor comes with it",
    ),
    _front(43, "CHECK_DEVICE_STATE", reply="u64", needs="DEVICE_STATE"),
    _front(44, "GET_SHMEM_CONFIG", reply="shmem", needs="SHMEM"),
)
"""What the front-end sends."""

BACKEND: tuple[Message, ...] = (
    _back(1, "IOTLB_MSG", "iotlb", needs="ACCESS_PLATFORM"),
    _back(2, "CONFIG_CHANGE_MSG", needs="CONFIG"),
    _back(3, "VRING_HOST_NOTIFIER_MSG", "area", fds="the area, absent to withdraw it", needs="HOST_NOTIFIER"),
    _back(4, "VRING_CALL", "state", needs="INBAND_NOTIFICATIONS"),
    _back(5, "VRING_ERR", "state", needs="INBAND_NOTIFICATIONS"),
    _back(6, "SHARED_OBJECT_ADD", "uuid", needs="SHARED_OBJECT"),
    _back(7, "SHARED_OBJECT_REMOVE", "uuid", needs="SHARED_OBJECT"),
    _back(
        8,
        "SHARED_OBJECT_LOOKUP",
        "uuid",
        reply="u64",
        needs="SHARED_OBJECT",
        note="the reply carries a dma-buf",
    ),
    _back(9, "SHMEM_MAP", "mmap", fds="what to map", needs="SHMEM"),
    _back(10, "SHMEM_UNMAP", "mmap", needs="SHMEM"),
)
"""What the back-end sends, on the socket of SET_BACKEND_REQ_FD."""


def find(key: int | str) -> list[Message]:
    """The messages of a number or a name (any case, with or without its usual prefix), of either sender.

    UsageError if there is none.
    """
    text = str(key).upper().removeprefix("VHOST_USER_").removeprefix("BACKEND_")
    found = [message for message in FRONTEND + BACKEND if text in (message.name, str(message.id))]
    if not found:
        raise UsageError(f"no vhost-user message {key!r} is known", fix="virtio spec messages lists them all")
    return found
