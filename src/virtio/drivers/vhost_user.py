"""Devices behind a vhost-user socket."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from contextlib import suppress
from socket import socket
from typing import Self

from virtio.drivers.connecting import open_frontend
from virtio.drivers.memory import SharedRegion
from virtio.drivers.transport import Event, EventKind, QueueAddresses, QueueFds
from virtio.errors import RefusedError, UnsupportedRequestError, VirtioError
from virtio.vhost_user.frontend import Frontend
from virtio.vhost_user.frontend import SharedRegion as FrontendRegion
from virtio.vhost_user.messages import ProtocolFeature

__all__ = ["VhostUserTransport"]

LARGEST_QUEUE = 32768  # what the rings allow; vhost-user has no limit of its own
PACKED_START = 0x8000_8000  # both positions 0, both wrap counters 1
MOST_REGIONS = 8  # in one SET_MEM_TABLE
LONGEST_ANSWER = 30.0  # seconds, where the caller would wait for ever
DEAD = select.POLLHUP | select.POLLERR | select.POLLNVAL | select.POLLRDHUP


def _eventfd() -> int:
    return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


class _Queue:
    """A live queue's eventfds."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.kick, self.call, self.error = _eventfd(), _eventfd(), _eventfd()

    def close(self) -> None:
        for fd in (self.kick, self.call, self.error):
            os.close(fd)


class VhostUserTransport:
    """A `Transport` over a vhost-user front-end.

    The device status register is the back-end's where it offers STATUS, else it is kept here.
    """

    device_id: int | None = None

    def __init__(
        self, sock: socket | str, *, timeout: float | None = None, counts_pairs: bool = False
    ) -> None:
        self.counts_pairs = counts_pairs
        self._lock = threading.RLock()
        self._config_fd = _eventfd()  # readable: the configuration changed
        self._wake_fd = _eventfd()  # readable: the watcher should look up
        self._status = 0
        self._queues: dict[int, _Queue] = {}
        self._closed = False
        self._watcher: threading.Thread | None = None
        self._watched = threading.Event()
        self._watched.set()
        try:
            self.frontend = self._open(sock, timeout or LONGEST_ANSWER)
        except BaseException:
            os.close(self._config_fd)
            os.close(self._wake_fd)
            raise

    def _open(self, sock: socket | str, timeout: float) -> Frontend:
        def changed() -> None:
            os.eventfd_write(self._config_fd, 1)

        return open_frontend(sock, timeout, changed)

    @classmethod
    def connect(
        cls,
        address: str | os.PathLike[str] | socket,
        *,
        timeout: float | None = 30.0,
        counts_pairs: bool = False,
    ) -> Self:
        """Connect to the back-end listening at a path, or take over a connected socket.

        ``counts_pairs``: the number of queues it tells is one of pairs, as it is for network devices.
        """
        place = address if isinstance(address, socket) else os.fspath(address)
        return cls(place, timeout=timeout, counts_pairs=counts_pairs)

    # Negotiation.

    def device_features(self) -> int:
        """GET_FEATURES."""
        with self._lock:
            return self.frontend.get_features()

    def set_driver_features(self, mask: int) -> None:
        """SET_FEATURES."""
        with self._lock:
            self.frontend.set_features(mask)

    def status(self) -> int:
        """GET_STATUS, or what was set."""
        with self._lock:
            if self.frontend.has(ProtocolFeature.STATUS):
                return self.frontend.get_status()
            return self._status

    def set_status(self, status: int) -> None:
        """SET_STATUS where there is one."""
        with self._lock:
            self._status = status
            if self.frontend.has(ProtocolFeature.STATUS):
                self.frontend.set_status(status)

    # Configuration space.

    def config_generation(self) -> int | None:
        """None: one GET_CONFIG is one consistent answer."""
        return None

    def read_config(self, offset: int, size: int) -> bytes:
        """GET_CONFIG."""
        with self._lock:
            self._need_config()
            return self.frontend.get_config(offset, size)

    def write_config(self, offset: int, data: bytes) -> None:
        """SET_CONFIG."""
        with self._lock:
            self._need_config()
            self.frontend.set_config(offset, data)

    def _need_config(self) -> None:
        if not self.frontend.has(ProtocolFeature.CONFIG):
            raise UnsupportedRequestError(
                "the back-end gives no access to the device's configuration (protocol feature CONFIG)"
            )

    # Memory.

    def share(self, region: SharedRegion) -> bool:
        """ADD_MEM_REG with memory slots, else SET_MEM_TABLE with one region more."""
        with self._lock:
            if len(self.frontend.regions) >= self._most_regions():
                return False
            shared = FrontendRegion(region.guest_address, region.size, region.user_address, 0, region.fd)
            if shared not in self.frontend.regions:
                self.frontend.add_mem_region(shared)
            return True

    def can_share_later(self) -> bool:
        """Only with memory slots: a new table would interrupt every queue."""
        return self.frontend.has(ProtocolFeature.CONFIGURE_MEM_SLOTS)

    def _most_regions(self) -> int:
        return self.frontend.get_max_mem_slots() if self.can_share_later() else MOST_REGIONS

    # Queues.

    def queue_limit(self) -> int | None:
        """GET_QUEUE_NUM where there is MQ; of pairs, with the control queue that is not counted."""
        with self._lock:
            if not self.frontend.has(ProtocolFeature.MQ):
                return None
            count = self.frontend.get_queue_num()
            return 2 * count + 1 if self.counts_pairs else count

    def queue_max_size(self, index: int) -> int:
        """Vhost-user leaves the size to the front-end."""
        limit = self.queue_limit()
        return LARGEST_QUEUE if limit is None or index < limit else 0

    def setup_queue(self, index: int, addresses: QueueAddresses, *, packed: bool) -> QueueFds:
        """SET_VRING_NUM, _BASE, _ADDR, _KICK, _CALL, _ERR, _ENABLE; the areas by their user addresses."""
        queue = _Queue(index)
        front = self.frontend
        with self._lock:
            try:
                front.set_vring_num(index, addresses.size)
                front.set_vring_base(index, PACKED_START if packed else 0)
                front.set_vring_addr(
                    index,
                    self._user(addresses.descriptors),
                    self._user(addresses.driver_area),
                    self._user(addresses.device_area),
                )
                front.set_vring_kick(index, queue.kick)
                front.set_vring_call(index, queue.call)
                front.set_vring_err(index, queue.error)
                front.set_vring_enable(index, True)
            except BaseException:
                queue.close()
                raise
            self._queues[index] = queue
        self._wake()
        return QueueFds(queue.kick, queue.call)

    def enable_queue(self, index: int, *, enabled: bool) -> None:
        """SET_VRING_ENABLE."""
        with self._lock:
            self.frontend.set_vring_enable(index, enabled)

    def _user(self, address: int) -> int:
        for region in self.frontend.regions:
            if 0 <= address - region.guest_address < region.size:
                return address - region.guest_address + region.user_address
        raise AssertionError(f"{address:#x} was never shared")

    # Watching.

    def events(self) -> Iterator[Event]:
        """What comes on the back channel, the queues' error bells, and the end of the connection."""
        self._watcher = threading.current_thread()
        self._watched.clear()
        try:
            while not self._closed:
                for event in self._wait_events():
                    yield event
                    if event.kind is EventKind.GONE:
                        return
        finally:
            self._watched.set()

    def _wait_events(self) -> list[Event]:
        with self._lock:
            main = self.frontend.fileno()
            back = self.frontend.back_channel_fd
            errors = {queue.error: queue.index for queue in self._queues.values()}
        if main < 0:
            return [Event(EventKind.GONE, "the connection is closed")]
        poller = select.poll()
        poller.register(main, select.POLLRDHUP)  # its data belongs to whoever waits for an answer
        for fd in (self._wake_fd, self._config_fd, *errors, *([back] if back is not None else [])):
            poller.register(fd, select.POLLIN)
        ready = dict(poller.poll())
        if self._closed:
            return []
        if self._wake_fd in ready:
            _silence(self._wake_fd)
        if back in ready:
            self._serve_back_channel()
        return self._interpret(ready, main, errors)

    def _interpret(self, ready: dict[int, int], main: int, errors: dict[int, int]) -> list[Event]:
        events = []
        for fd, index in errors.items():
            if ready.get(fd, 0) & select.POLLIN:
                _silence(fd)
                events.append(Event(EventKind.QUEUE_FAILED, f"queue {index}"))
        if _silence(self._config_fd):
            events.append(Event(EventKind.CONFIG_CHANGED))
        if ready.get(main, 0) & DEAD:
            events.append(Event(EventKind.GONE, "it closed the connection"))
        return events

    def _serve_back_channel(self) -> None:
        # If it breaks it is closed; the main channel decides what becomes of the device.
        with self._lock, suppress(VirtioError):
            self.frontend.serve_back_channel()

    def _wake(self) -> None:
        os.eventfd_write(self._wake_fd, 1)

    # The end.

    def reset(self) -> None:
        """Stop the queues (GET_VRING_BASE waits for what is in flight), then reset what can be reset."""
        with self._lock:
            queues, self._queues = list(self._queues.values()), {}
            self._wake()
            try:
                for queue in queues:
                    self.frontend.set_vring_enable(queue.index, False)
                    self.frontend.get_vring_base(queue.index)
                self._reset_device()
            finally:
                self._status = 0
                for queue in queues:
                    queue.close()

    def _reset_device(self) -> None:
        front = self.frontend
        if front.has(ProtocolFeature.STATUS):
            front.set_status(0)
        elif self._status and front.has(ProtocolFeature.RESET_DEVICE):  # a new session is a reset device
            with suppress(RefusedError):  # the queues are stopped; some back-ends cannot do more than that
                front.reset_device()

    def close(self) -> None:
        """Close the connection."""
        if self._closed:
            return
        self._closed = True
        self._wake()
        if threading.current_thread() is not self._watcher:
            self._watched.wait()
        with self._lock:
            self.frontend.close()
            for queue in self._queues.values():
                queue.close()
            self._queues = {}
            os.close(self._config_fd)
            os.close(self._wake_fd)


def _silence(fd: int) -> bool:
    """Read an eventfd; whether it was ringing."""
    try:
        os.eventfd_read(fd)
    except BlockingIOError:
        return False
    return True
