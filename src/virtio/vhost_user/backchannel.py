"""The channel of SET_BACKEND_REQ_FD, the back-end's end: requests to the front-end, never waited for."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable

from virtio.errors import PeerError, ProtocolError
from virtio.vhost_user.connection import Requester
from virtio.vhost_user.loop import ControlLoop
from virtio.vhost_user.messages import BACKEND_REQUESTS, BackendRequest
from virtio.vhost_user.payloads import Number, Payload, VringState
from virtio.vhost_user.socket import Channel

__all__ = ["BackChannel"]


class BackChannel:
    """Sends requests one kind and ring at a time; a repetition before the answer is sent once after it.

    That bounds what can pile up for a front-end that does not read. ``on_error`` is told when the channel
    has to be given up; the main channel lives on.
    """

    def __init__(
        self, loop: ControlLoop, fd: int, features: int, on_error: Callable[[PeerError], None]
    ) -> None:
        self._loop = loop
        self._channel = Channel(socket.socket(fileno=fd))
        self._requester = Requester(BACKEND_REQUESTS)
        self._requester.features = features
        self._on_error = on_error
        self._in_flight: deque[tuple[BackendRequest, Payload | None]] = deque()
        self._again: dict[tuple[BackendRequest, Payload | None], None] = {}
        self._closed = False
        loop.on_readable(self._channel.fileno(), self._receive)

    def config_changed(self) -> None:
        """CONFIG_CHANGE_MSG: the front-end should read the configuration space again."""
        self._send(BackendRequest.CONFIG_CHANGE_MSG, None)

    def call(self, index: int) -> None:
        """VRING_CALL: buffers of a ring were used."""
        self._send(BackendRequest.VRING_CALL, VringState(index, 0))

    def err(self, index: int) -> None:
        """VRING_ERR: a ring met an error."""
        self._send(BackendRequest.VRING_ERR, VringState(index, 0))

    def close(self) -> None:
        """Give the channel up."""
        if self._closed:
            return
        self._closed = True
        self._loop.forget(self._channel.fileno())
        self._requester.close()
        self._channel.close()
        self._in_flight.clear()
        self._again.clear()

    def _send(self, request: BackendRequest, payload: Payload | None) -> None:
        if self._closed:
            return
        if (request, payload) in self._in_flight or self._channel.unsent:
            self._again[request, payload] = None
            return
        before = self._requester.outstanding
        outgoing = self._requester.send(request, payload)
        if self._requester.outstanding > before:
            self._in_flight.append((request, payload))
        try:
            self._channel.send(outgoing)
        except OSError:
            self.close()
            return
        if self._channel.unsent:
            self._loop.on_writable(self._channel.fileno(), self._flush)

    def _flush(self) -> None:
        try:
            self._channel.flush()
        except OSError:
            self.close()
            return
        if not self._channel.unsent:
            self._loop.on_writable(self._channel.fileno(), None)
            self._repeat()

    def _receive(self) -> None:
        try:
            received = self._channel.receive(self._requester.wanted)
            if received is None:
                return
            self._requester.receive_data(received.data, received.fds)
        except (OSError, ProtocolError) as error:
            self.close()
            if isinstance(error, ProtocolError):
                self._on_error(error)
            return
        if not received.data:
            self.close()
        elif reply := self._requester.next_event():
            self._answered(reply.payload)

    def _answered(self, payload: Payload | None) -> None:
        request, _ = self._in_flight.popleft()
        if isinstance(payload, Number) and payload.value:
            self._on_error(PeerError(f"the front-end refused {request.name} with {payload.value:#x}"))
        self._repeat()

    def _repeat(self) -> None:
        waiting, self._again = self._again, {}
        for request, payload in waiting:
            self._send(request, payload)
