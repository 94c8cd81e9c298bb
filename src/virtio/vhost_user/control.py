"""What each request of a front-end does to the device: vhost-user's words into `Attachment`'s."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from virtio.errors import NotSharedError, ProtocolError, VirtioError
from virtio.memory import GuestMemory
from virtio.spec.features import ACCESS_PLATFORM, RING_PACKED, VERSION_1
from virtio.vhost_user import memory as shared
from virtio.vhost_user.connection import Request
from virtio.vhost_user.messages import (
    F_LOG_ALL,
    F_PROTOCOL_FEATURES,
    FrontendRequest,
    ProtocolFeature,
    feature_names,
)
from virtio.vhost_user.net import net_set_mtu, offered_for, queue_count, send_rarp
from virtio.vhost_user.payloads import ConfigSpace, Number, Payload, VringState
from virtio.vhost_user.rings import RingSetup

if TYPE_CHECKING:
    from virtio.device import Attachment

__all__ = ["OFFERED", "UNASKED", "Answer", "DeviceControl"]

_F = FrontendRequest
_P = ProtocolFeature

OFFERED = (
    _P.MQ.mask
    | _P.LOG_SHMFD.mask
    | _P.REPLY_ACK.mask
    | _P.BACKEND_REQ.mask
    | _P.CONFIG.mask
    | _P.RESET_DEVICE.mask
    | _P.INBAND_NOTIFICATIONS.mask
    | _P.CONFIGURE_MEM_SLOTS.mask
    | _P.STATUS.mask
)
"""The protocol features of our back-end. SET_BACKEND_REQ_FD itself is the session's."""

UNASKED = _P.INBAND_NOTIFICATIONS.mask
"""Those that a server withholds unless told otherwise. User-Mode Linux takes in-band notifications wherever it
can have them: each is then a message with an answer, all through the control thread."""

_ALL_64 = (1 << 64) - 1
_LOG = 1 << F_LOG_ALL
_PROTOCOL = 1 << F_PROTOCOL_FEATURES
_UNSERVED = 1 << ACCESS_PLATFORM
"""Features a device may have that cannot be had over this transport yet: the I/O TLB is not asked."""

Answer: TypeAlias = Payload | int | None


class DeviceControl:
    """One front-end's requests, carried out. Runs on the control thread alone.

    `handle` returns what `Responder.answer` takes. It raises VirtioError if a request cannot be done: the
    device is then as it was before. ``withhold``: protocol features (a mask) not to offer.
    """

    def __init__(self, attachment: Attachment, *, withhold: int = 0) -> None:
        self.attachment = attachment
        self.memory = GuestMemory()
        self.rings = [RingSetup(vring) for vring in attachment.vrings]
        self.offered = offered_for(attachment.device, OFFERED, owned=True) & ~withhold
        """The protocol features for this device and front-end."""
        self._owned = False
        self.protocol_features = 0
        self.feature_mask = 0
        """What SET_FEATURES last brought, transport bits included."""
        self.asked_for_rings = False
        """Whether the front-end went as far as to set rings up."""
        self._log_fd: int | None = None
        self._log: Any = None
        self._logging = False

    @property
    def has_memory(self) -> bool:
        """Whether the front-end shares any."""
        return bool(self.memory.regions)

    @property
    def suspended(self) -> bool:
        """Whether no ring runs; the front-end and the guest are then not to be notified of anything."""
        return not any(ring.vring.running for ring in self.rings)

    def may_be_private(self) -> bool | None:
        """Whether the driver kicks rings and none of it shows in the memory: it was not what was shared.

        QEMU passes the descriptors of memory that it maps privately, too. None as long as nothing is sure.
        """
        rings = [stats for ring in self.rings if (stats := ring.vring.stats())]
        if any(stats["requests"] for stats in rings):
            return False
        if not any(stats["kicks"] for stats in rings):
            return None
        return shared.is_blank(self.memory)

    def handle(self, request: Request) -> Answer:
        """Carry out one request."""
        handler = _HANDLERS.get(request.kind.request)
        if handler is None:
            raise ProtocolError(f"{request.kind.name} is not among what was offered")
        return handler(self, request)

    def close(self) -> None:
        """The front-end is gone: stop everything and drop what it gave us."""
        try:
            self.attachment.close()
        finally:
            self._drop_log()

    # --- features ---

    def get_features(self, request: Request) -> Answer:
        """GET_FEATURES: the device's, and the transport's own two."""
        offered: int = self.attachment.offered_features
        return (offered & ~_UNSERVED & _ALL_64) | self._own_features

    @property
    def _own_features(self) -> int:
        return _PROTOCOL | (_LOG if self.offered & _P.LOG_SHMFD.mask else 0)

    def set_features(self, request: Request) -> Answer:
        """SET_FEATURES. Without bit 30 all rings are enabled at once, whatever came before."""
        mask = _number(request)
        logging_changed = (mask ^ self.feature_mask) & _LOG
        if mask & ~(self._own_features | self.attachment.offered_features) or mask & _UNSERVED:
            raise ProtocolError(f"SET_FEATURES accepts what was not offered: {mask:#x}")
        device_mask = mask & ~_LOG & ~_PROTOCOL
        if device_mask != self.attachment.features or not self.feature_mask:
            self.attachment.set_features(device_mask)
        self.feature_mask = mask
        if logging_changed and self._log_fd is not None:
            self._share(self.memory)
        if not mask & _PROTOCOL:
            for ring in self.rings:
                ring.vring.set_enabled(True)
        return 0

    def get_protocol_features(self, request: Request) -> Answer:
        """GET_PROTOCOL_FEATURES. Who asked before it was the owner is not offered more afterwards."""
        self.offered &= offered_for(self.attachment.device, self.offered, owned=self._owned)
        return self.offered

    def set_protocol_features(self, request: Request) -> Answer:
        """SET_PROTOCOL_FEATURES; in-band notifications only with the two features they rest on."""
        mask = _number(request)
        if strange := mask & ~self.offered:
            names = ", ".join(feature_names(strange))
            raise ProtocolError(f"SET_PROTOCOL_FEATURES accepts what was not offered: {names}")
        needed = _P.BACKEND_REQ.mask | _P.REPLY_ACK.mask
        if mask & _P.INBAND_NOTIFICATIONS.mask and mask & needed != needed:
            raise ProtocolError("INBAND_NOTIFICATIONS was accepted without BACKEND_REQ and REPLY_ACK")
        self.protocol_features = mask
        return 0

    def get_queue_num(self, request: Request) -> Answer:
        """GET_QUEUE_NUM."""
        return queue_count(self.attachment.device, len(self.rings), owned=self._owned)

    # --- ownership, reset, status ---

    def set_owner(self, request: Request) -> Answer:
        """SET_OWNER: the session begins. Front-ends that repeat or omit it are served too."""
        self._owned = True
        return 0

    def reset_owner(self, request: Request) -> Answer:
        """RESET_OWNER, deprecated: disables all rings and forgets nothing."""
        for ring in self.rings:
            ring.vring.set_enabled(False)
        return 0

    def reset_device(self, request: Request) -> Answer:
        """RESET_DEVICE: rings, features and status start anew; the shared memory stays."""
        self.attachment.reset()
        self._forget()
        return 0

    def set_status(self, request: Request) -> Answer:
        """SET_STATUS: the device status register; 0 resets the device."""
        value = _number(request)
        if value > 0xFF:
            raise ProtocolError(f"SET_STATUS: {value:#x} does not fit the status register")
        self.attachment.status = value
        if not value:
            self._forget()
        return 0

    def get_status(self, request: Request) -> Answer:
        """GET_STATUS."""
        status: int = self.attachment.status
        return status

    def _forget(self) -> None:
        self.feature_mask = 0
        for ring in self.rings:
            ring.forget()
            ring.vring.set_enabled(False)

    # --- memory ---

    def set_mem_table(self, request: Request) -> Answer:
        """SET_MEM_TABLE: this and no other memory from now on."""
        self._share(shared.memory_of_table(_payload(request), request.fds))
        return 0

    def add_mem_reg(self, request: Request) -> Answer:
        """ADD_MEM_REG: one region more. Rings may be running."""
        fd = request.fds[0] if request.fds else None
        self._share(shared.add_region(self.memory, _payload(request), fd))
        return 0

    def rem_mem_reg(self, request: Request) -> Answer:
        """REM_MEM_REG: one region less. A descriptor that came along is closed unused."""
        self._share(shared.remove_region(self.memory, _payload(request)))
        return 0

    def get_max_mem_slots(self, request: Request) -> Answer:
        """GET_MAX_MEM_SLOTS."""
        return shared.MAX_SLOTS

    def set_log_base(self, request: Request) -> Answer:
        """SET_LOG_BASE: where to mark what is written, while LOG_ALL is among the features."""
        log = _payload(request)
        shared.with_log(self.memory, log, request.fds[0])
        self._drop_log()
        self._log_fd, self._log = request.take_fd(), log
        self._share(self.memory)
        return 0

    def set_log_fd(self, request: Request) -> Answer:
        """SET_LOG_FD: the front-end may be told of new entries; it looks by itself, so we need not."""
        return 0

    def _share(self, memory: GuestMemory) -> None:
        wanted = self._log_fd is not None and bool(self.feature_mask & _LOG)
        if wanted and self._log_fd is not None:
            memory = shared.with_log(memory, self._log, self._log_fd)
        elif self._logging:
            memory = memory.with_log(None)
        self.attachment.set_memory(memory)
        self.memory = memory
        self._logging = wanted

    def _drop_log(self) -> None:
        if self._log_fd is not None:
            os.close(self._log_fd)
        self._log_fd = None

    # --- rings ---

    def set_vring_num(self, request: Request) -> Answer:
        """SET_VRING_NUM."""
        ring, payload = self._ring_state(request)
        ring.set_size(payload.num)
        return 0

    def set_vring_addr(self, request: Request) -> Answer:
        """SET_VRING_ADDR."""
        address = _payload(request)
        ring = self._ring(address.index)
        ring.set_addresses(address.descriptors, address.avail, address.used)
        self._start(ring)
        return 0

    def set_vring_base(self, request: Request) -> Answer:
        """SET_VRING_BASE."""
        ring, payload = self._ring_state(request)
        ring.set_base(payload.num)
        return 0

    def get_vring_base(self, request: Request) -> Answer:
        """GET_VRING_BASE: drain and stop the ring, answer where it stands."""
        ring, payload = self._ring_state(request)
        return VringState(payload.index, ring.stop(self._packed))

    def set_vring_kick(self, request: Request) -> Answer:
        """SET_VRING_KICK: the ring may start."""
        ring = self._ring(_payload(request).index)
        ring.kick_settled = True
        ring.vring.set_kick(request.take_fd())
        self._kicked(ring)
        return 0

    def vring_kick(self, request: Request) -> Answer:
        """VRING_KICK: the kick in-band."""
        ring, _ = self._ring_state(request)
        if not ring.kick_settled:
            ring.kick_settled = True
            ring.vring.set_kick(None, in_band=True)
        self._kicked(ring)
        ring.vring.kick()
        return 0

    def set_vring_call(self, request: Request) -> Answer:
        """SET_VRING_CALL."""
        ring = self._ring(_payload(request).index)
        ring.call_settled = True
        ring.vring.set_call(request.take_fd())
        return 0

    def set_vring_err(self, request: Request) -> Answer:
        """SET_VRING_ERR."""
        ring = self._ring(_payload(request).index)
        ring.has_err = bool(request.fds)
        ring.vring.set_err(request.take_fd())
        return 0

    def set_vring_enable(self, request: Request) -> Answer:
        """SET_VRING_ENABLE."""
        ring, payload = self._ring_state(request)
        if payload.num > 1:
            raise ProtocolError(f"SET_VRING_ENABLE: {payload.num} is neither on nor off")
        ring.vring.set_enabled(bool(payload.num))
        return 0

    @property
    def _packed(self) -> bool:
        return bool(self.feature_mask >> RING_PACKED & 1)

    def _ring(self, index: int) -> RingSetup:
        if index >= len(self.rings):
            raise ProtocolError(f"ring {index} does not exist; the device has {len(self.rings)}")
        self.asked_for_rings = True
        return self.rings[index]

    def _ring_state(self, request: Request) -> tuple[RingSetup, VringState]:
        payload: VringState = _payload(request)
        return self._ring(payload.index), payload

    def _kicked(self, ring: RingSetup) -> None:
        if not self.has_memory:
            raise NotSharedError(
                f"ring {ring.vring.index} is to start before the front-end shared any memory"
            )
        ring.kicked = True
        self._start(ring)

    def _start(self, ring: RingSetup) -> None:
        legacy = not self.feature_mask >> VERSION_1 & 1
        ring.start(self.memory, packed=self._packed, legacy=legacy)

    # --- configuration space ---

    def get_config(self, request: Request) -> Answer:
        """GET_CONFIG: as many bytes as asked for, zeros past the end of what the device has."""
        wanted: ConfigSpace = _payload(request)
        size = len(wanted.data)
        try:
            data = self.attachment.read_config(wanted.offset, size)
        except VirtioError:
            return None
        return ConfigSpace(wanted.offset, data.ljust(size, b"\0")[:size], wanted.flags)

    def set_config(self, request: Request) -> Answer:
        """SET_CONFIG: from the guest, or all of it in a migration."""
        written: ConfigSpace = _payload(request)
        if written.flags > ConfigSpace.MIGRATION:
            raise ProtocolError(f"SET_CONFIG: no such flags as {written.flags:#x}")
        migration = written.flags == ConfigSpace.MIGRATION
        self.attachment.write_config(written.offset, written.data, migration=migration)
        return 0


def _payload(request: Request) -> Any:
    """The payload, of the type that the message table already checked."""
    return request.payload


def _number(request: Request) -> int:
    assert isinstance(request.payload, Number)
    return request.payload.value


_HANDLERS: dict[int, Callable[[DeviceControl, Request], Answer]] = {
    _F.GET_FEATURES: DeviceControl.get_features,
    _F.SET_FEATURES: DeviceControl.set_features,
    _F.SET_OWNER: DeviceControl.set_owner,
    _F.RESET_OWNER: DeviceControl.reset_owner,
    _F.SET_MEM_TABLE: DeviceControl.set_mem_table,
    _F.SET_LOG_BASE: DeviceControl.set_log_base,
    _F.SET_LOG_FD: DeviceControl.set_log_fd,
    _F.SET_VRING_NUM: DeviceControl.set_vring_num,
    _F.SET_VRING_ADDR: DeviceControl.set_vring_addr,
    _F.SET_VRING_BASE: DeviceControl.set_vring_base,
    _F.GET_VRING_BASE: DeviceControl.get_vring_base,
    _F.SET_VRING_KICK: DeviceControl.set_vring_kick,
    _F.SET_VRING_CALL: DeviceControl.set_vring_call,
    _F.SET_VRING_ERR: DeviceControl.set_vring_err,
    _F.GET_PROTOCOL_FEATURES: DeviceControl.get_protocol_features,
    _F.SET_PROTOCOL_FEATURES: DeviceControl.set_protocol_features,
    _F.GET_QUEUE_NUM: DeviceControl.get_queue_num,
    _F.SET_VRING_ENABLE: DeviceControl.set_vring_enable,
    _F.SEND_RARP: send_rarp,
    _F.NET_SET_MTU: net_set_mtu,
    _F.GET_CONFIG: DeviceControl.get_config,
    _F.SET_CONFIG: DeviceControl.set_config,
    _F.RESET_DEVICE: DeviceControl.reset_device,
    _F.VRING_KICK: DeviceControl.vring_kick,
    _F.GET_MAX_MEM_SLOTS: DeviceControl.get_max_mem_slots,
    _F.ADD_MEM_REG: DeviceControl.add_mem_reg,
    _F.REM_MEM_REG: DeviceControl.rem_mem_reg,
    _F.SET_STATUS: DeviceControl.set_status,
    _F.GET_STATUS: DeviceControl.get_status,
}
