"""The front-end role: drives any vhost-user back-end, one request at a time, with a deadline for each."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

from virtio.closing import Closing
from virtio.errors import ProtocolError, RefusedError, UsageError
from virtio.vhost_user.address import connect
from virtio.vhost_user.exchange import Exchange
from virtio.vhost_user.messages import F_LOG_ALL, F_PROTOCOL_FEATURES, FrontendRequest, ProtocolFeature
from virtio.vhost_user.payloads import (
    ConfigSpace,
    MemoryRegion,
    MemoryTable,
    Number,
    Payload,
    SingleRegion,
    VringAddress,
    VringFd,
    VringState,
)

__all__ = ["DEFAULT_PROTOCOL_FEATURES", "Frontend", "SharedRegion"]

_F = FrontendRequest
_P = ProtocolFeature

DEFAULT_PROTOCOL_FEATURES = (
    _P.MQ.mask
    | _P.REPLY_ACK.mask
    | _P.BACKEND_REQ.mask
    | _P.CONFIG.mask
    | _P.RESET_DEVICE.mask
    | _P.CONFIGURE_MEM_SLOTS.mask
    | _P.STATUS.mask
)
"""What a front-end accepts if offered. In-band notifications have to be asked for."""

_TRANSPORT = 1 << F_PROTOCOL_FEATURES | 1 << F_LOG_ALL


class SharedRegion(NamedTuple):
    """Memory to share: its address for the device and in this process, bytes, and where in which descriptor.

    The descriptor stays the caller's.
    """

    guest_address: int
    size: int
    user_address: int
    offset: int
    fd: int


class Frontend(Closing):
    """A connection to a back-end. Not for several threads at once.

    `connect` and `from_socket` do the handshake; the constructor alone does not (`handshake` does). Methods
    are named after the requests and raise:

    - RefusedError if the back-end answers with a failure (known only with REPLY_ACK; without it a back-end
      closes the connection),
    - DeviceGoneError if it left, DeviceTimeoutError if it does not answer within ``timeout`` seconds,
    - ProtocolError if it breaks the protocol,
    - UsageError if a request needs a protocol feature that was not negotiated.

    ``on_config_change()``, ``on_vring_call(index)`` and ``on_vring_err(index)`` are called from
    `serve_back_channel` and while a request waits for its answer.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        timeout: float = 10.0,
        name: str = "the back-end",
        on_config_change: Callable[[], None] | None = None,
        on_vring_call: Callable[[int], None] | None = None,
        on_vring_err: Callable[[int], None] | None = None,
    ) -> None:
        self._exchange = Exchange(sock, timeout, name)
        self._exchange.on_config_change = on_config_change
        self._exchange.on_vring_call = on_vring_call
        self._exchange.on_vring_err = on_vring_err
        self._regions: list[SharedRegion] = []
        self._protocol = False

    @classmethod
    def connect(
        cls,
        path: str | os.PathLike[str],
        *,
        timeout: float = 10.0,
        protocol_features: int = DEFAULT_PROTOCOL_FEATURES,
        on_config_change: Callable[[], None] | None = None,
    ) -> Self:
        """Connect to the back-end that listens at ``path`` and do the handshake.

        HostError says why there is nobody to connect to.
        """
        path = os.fspath(path)
        sock = connect(path, timeout)
        front = cls(sock, timeout=timeout, name=path, on_config_change=on_config_change)
        return front._shaken(protocol_features)

    @classmethod
    def from_socket(
        cls,
        sock: socket.socket,
        *,
        timeout: float = 10.0,
        protocol_features: int = DEFAULT_PROTOCOL_FEATURES,
        on_config_change: Callable[[], None] | None = None,
    ) -> Self:
        """Take over a connected socket and do the handshake."""
        return cls(sock, timeout=timeout, on_config_change=on_config_change)._shaken(protocol_features)

    def _shaken(self, protocol_features: int) -> Self:
        try:
            self.handshake(protocol_features)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Leave. The back-end drains and stops by itself. Idempotent."""
        self._exchange.close()

    @property
    def timeout(self) -> float:
        """Seconds that an answer may take."""
        return self._exchange.timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._exchange.timeout = seconds

    def fileno(self) -> int:
        """The main channel's descriptor; it becomes readable unasked only when the back-end leaves."""
        return self._exchange.fileno()

    # --- negotiation ---

    @property
    def protocol_features(self) -> int:
        """The protocol features in force, as a mask."""
        return self._exchange.features

    def has(self, feature: ProtocolFeature) -> bool:
        """Whether a protocol feature is in force."""
        return bool(self.protocol_features & feature.mask)

    def handshake(self, wanted: int = DEFAULT_PROTOCOL_FEATURES) -> None:
        """Open the session: owner, features, protocol features (of ``wanted`` those offered), channel."""
        self.set_owner()
        self._protocol = bool(self._number(_F.GET_FEATURES) >> F_PROTOCOL_FEATURES & 1)
        if not self._protocol:
            return
        accepted = self.get_protocol_features() & wanted
        inband_needs = _P.BACKEND_REQ.mask | _P.REPLY_ACK.mask
        if accepted & inband_needs != inband_needs:
            accepted &= ~_P.INBAND_NOTIFICATIONS.mask
        self.set_protocol_features(accepted)
        if self.has(_P.BACKEND_REQ):
            self.open_back_channel()

    def get_features(self) -> int:
        """GET_FEATURES: what the device offers, without the transport's own two bits."""
        return self._number(_F.GET_FEATURES) & ~_TRANSPORT

    def set_features(self, mask: int) -> None:
        """SET_FEATURES; the transport's bit 30 is added when protocol features were negotiated."""
        protocol = 1 << F_PROTOCOL_FEATURES if self._protocol else 0
        self._call(_F.SET_FEATURES, Number(mask | protocol))

    def get_protocol_features(self) -> int:
        """GET_PROTOCOL_FEATURES: what the back-end offers."""
        return self._number(_F.GET_PROTOCOL_FEATURES)

    def set_protocol_features(self, mask: int) -> None:
        """SET_PROTOCOL_FEATURES. Sent without asking for an acknowledgement: that is only being agreed."""
        self._exchange.features = 0
        self._call(_F.SET_PROTOCOL_FEATURES, Number(mask))
        self._exchange.features = mask
        self._protocol = True

    def set_owner(self) -> None:
        """SET_OWNER."""
        self._call(_F.SET_OWNER)

    def reset_owner(self) -> None:
        """RESET_OWNER, deprecated: disables the rings."""
        self._call(_F.RESET_OWNER)

    def reset_device(self) -> None:
        """RESET_DEVICE (or, where that is not offered but STATUS is, a status of 0)."""
        if self.has(_P.RESET_DEVICE) or not self.has(_P.STATUS):
            self._call(_F.RESET_DEVICE)
        else:
            self.set_status(0)

    def get_status(self) -> int:
        """GET_STATUS."""
        return self._number(_F.GET_STATUS)

    def set_status(self, status: int) -> None:
        """SET_STATUS."""
        self._call(_F.SET_STATUS, Number(status))

    def get_queue_num(self) -> int:
        """GET_QUEUE_NUM: how many queues there may be."""
        return self._number(_F.GET_QUEUE_NUM)

    # --- memory ---

    @property
    def regions(self) -> tuple[SharedRegion, ...]:
        """The memory that is shared now."""
        return tuple(self._regions)

    def get_max_mem_slots(self) -> int:
        """GET_MAX_MEM_SLOTS."""
        return self._number(_F.GET_MAX_MEM_SLOTS)

    def set_mem_table(self, regions: Sequence[SharedRegion]) -> None:
        """SET_MEM_TABLE: exactly these, 1 to 8."""
        if not 1 <= len(regions) <= MemoryTable.LIMIT:
            raise UsageError(f"a memory table has 1 to {MemoryTable.LIMIT} regions, not {len(regions)}")
        table = MemoryTable(tuple(MemoryRegion(*region[:4]) for region in regions))
        self._call(_F.SET_MEM_TABLE, table, tuple(region.fd for region in regions))
        self._settle()
        self._regions = list(regions)

    def add_mem_region(self, region: SharedRegion) -> None:
        """ADD_MEM_REG, or a longer table where the back-end has no memory slots."""
        if not self.has(_P.CONFIGURE_MEM_SLOTS):
            self.set_mem_table([*self._regions, region])
            return
        self._call(_F.ADD_MEM_REG, SingleRegion(*region[:4]), (region.fd,))
        self._settle()
        self._regions.append(region)

    def remove_mem_region(self, region: SharedRegion) -> None:
        """REM_MEM_REG, or a shorter table where the back-end has no memory slots."""
        if region not in self._regions:
            raise UsageError(f"no region of {region.size:#x} bytes at {region.guest_address:#x} is shared")
        rest = [known for known in self._regions if known != region]
        if not self.has(_P.CONFIGURE_MEM_SLOTS):
            self.set_mem_table(rest)
            return
        self._call(_F.REM_MEM_REG, SingleRegion(*region[:4]))
        self._settle()
        self._regions = rest

    def _settle(self) -> None:
        """Without acknowledgements: an answer to anything later says that the memory was looked at."""
        if not self.has(_P.REPLY_ACK):
            self._number(_F.GET_FEATURES)

    # --- rings ---

    def set_vring_num(self, index: int, size: int) -> None:
        """SET_VRING_NUM."""
        self._call(_F.SET_VRING_NUM, VringState(index, size))

    def set_vring_addr(self, index: int, descriptors: int, driver_area: int, device_area: int) -> None:
        """SET_VRING_ADDR: the three areas, as addresses in this process."""
        self._call(_F.SET_VRING_ADDR, VringAddress(index, 0, descriptors, device_area, driver_area))

    def set_vring_base(self, index: int, base: int) -> None:
        """SET_VRING_BASE; `rings.state_to_base` makes the number."""
        self._call(_F.SET_VRING_BASE, VringState(index, base))

    def get_vring_base(self, index: int) -> int:
        """GET_VRING_BASE: stops the ring once what is in flight is finished."""
        payload = self._ask(_F.GET_VRING_BASE, VringState(index, 0))
        assert isinstance(payload, VringState)
        if payload.index != index:
            raise ProtocolError(f"GET_VRING_BASE of ring {index} was answered for ring {payload.index}")
        return payload.num

    def set_vring_kick(self, index: int, fd: int | None) -> None:
        """SET_VRING_KICK. The descriptor stays the caller's; None: the back-end polls."""
        self._vring_fd(_F.SET_VRING_KICK, index, fd)

    def set_vring_call(self, index: int, fd: int | None) -> None:
        """SET_VRING_CALL. The descriptor stays the caller's; None: we poll."""
        self._vring_fd(_F.SET_VRING_CALL, index, fd)

    def set_vring_err(self, index: int, fd: int | None) -> None:
        """SET_VRING_ERR. The descriptor stays the caller's."""
        self._vring_fd(_F.SET_VRING_ERR, index, fd)

    def set_vring_enable(self, index: int, enabled: bool = True) -> None:
        """SET_VRING_ENABLE; nothing to be said to a back-end without protocol features: rings are enabled."""
        if self._protocol:
            self._call(_F.SET_VRING_ENABLE, VringState(index, int(enabled)))

    def vring_kick(self, index: int) -> None:
        """VRING_KICK: a kick in-band."""
        self._call(_F.VRING_KICK, VringState(index, 0))

    def _vring_fd(self, request: FrontendRequest, index: int, fd: int | None) -> None:
        payload = VringFd.of(index, fd is not None)
        self._call(request, payload, () if fd is None else (fd,))

    # --- configuration space ---

    def get_config(self, offset: int, size: int) -> bytes:
        """GET_CONFIG. RefusedError if the back-end has no such bytes."""
        payload = self._ask(_F.GET_CONFIG, ConfigSpace(offset, bytes(size)))
        if payload is None:
            raise RefusedError(
                f"{self._exchange.name} refused to read {size} bytes of configuration at {offset}"
            )
        assert isinstance(payload, ConfigSpace)
        if (payload.offset, len(payload.data)) != (offset, size):
            raise ProtocolError(
                f"GET_CONFIG of {size} bytes at {offset} was answered with {len(payload.data)} bytes"
                f" at {payload.offset}"
            )
        return payload.data

    def set_config(self, offset: int, data: bytes, *, migration: bool = False) -> None:
        """SET_CONFIG; ``migration`` sets read-only fields too."""
        flags = ConfigSpace.MIGRATION if migration else 0
        self._call(_F.SET_CONFIG, ConfigSpace(offset, data, flags))

    # --- the back-end's own channel ---

    def open_back_channel(self) -> None:
        """SET_BACKEND_REQ_FD with one end of a new pair of sockets."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self._exchange.open_back_channel(ours)
            self._call(_F.SET_BACKEND_REQ_FD, fds=(theirs.fileno(),))

    @property
    def back_channel_fd(self) -> int | None:
        """A descriptor to poll: readable when `serve_back_channel` has something to do. None without one."""
        return self._exchange.back_channel_fd

    def serve_back_channel(self, timeout: float = 0) -> int:
        """Answer what the back-end asked, waiting up to ``timeout`` seconds for it; how many requests."""
        return self._exchange.serve_back_channel(timeout)

    # --- sending ---

    def _call(
        self, request: FrontendRequest, payload: Payload | None = None, fds: tuple[int, ...] = ()
    ) -> None:
        """A request that is acknowledged at most."""
        answer = self._exchange.ask(request, payload, fds)
        if isinstance(answer, Number) and answer.value:
            raise RefusedError(f"{self._exchange.name} refused {request.name} (answer {answer.value:#x})")

    def _ask(self, request: FrontendRequest, payload: Payload | None = None) -> Payload | None:
        """A request with a reply of its own."""
        return self._exchange.ask(request, payload)

    def _number(self, request: FrontendRequest) -> int:
        answer = self._ask(request)
        assert isinstance(answer, Number)
        return answer.value
