"""The front-end's two channels and its waiting: a request goes out, its answer comes back or time is up."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable

from virtio.errors import DeviceGoneError, DeviceTimeoutError, ProtocolError
from virtio.vhost_user.connection import Refused, Request, Requester, Responder
from virtio.vhost_user.messages import BACKEND_REQUESTS, FRONTEND_REQUESTS, BackendRequest, FrontendRequest
from virtio.vhost_user.payloads import Payload, VringState
from virtio.vhost_user.socket import Channel

__all__ = ["Exchange"]


class Exchange:
    """Blocking request and answer on the main channel, the back-end's requests served meanwhile.

    They have to be: a back-end may wait for our acknowledgement before it answers us.
    """

    def __init__(self, sock: socket.socket, timeout: float, name: str) -> None:
        self.timeout = timeout
        self.name = name
        self.on_config_change: Callable[[], None] | None = None
        self.on_vring_call: Callable[[int], None] | None = None
        self.on_vring_err: Callable[[int], None] | None = None
        self._channel = Channel(sock)
        self._requester = Requester(FRONTEND_REQUESTS)
        self._back: Channel | None = None
        self._responder = Responder(BACKEND_REQUESTS)
        self._answers = 0
        self._answer: Payload | None = None
        self._closed = False

    @property
    def features(self) -> int:
        """The protocol features in force on both channels."""
        return self._requester.features

    @features.setter
    def features(self, mask: int) -> None:
        self._requester.features = self._responder.features = mask

    def fileno(self) -> int:
        """The main channel's descriptor."""
        return self._channel.fileno()

    def ask(
        self, request: FrontendRequest, payload: Payload | None = None, fds: tuple[int, ...] = ()
    ) -> Payload | None:
        """Send a request; wait for its answer if one is due and return its payload."""
        if self._closed:
            raise DeviceGoneError(f"the connection to {self.name} is closed")
        deadline = time.monotonic() + self.timeout
        outgoing = self._requester.send(request, payload, fds)
        try:
            self._channel.send(outgoing)
            while self._channel.unsent:
                self._wait(request, deadline, select.POLLOUT)
                self._channel.flush()
            while self._requester.outstanding:
                if self._receive(request):
                    return self._answer
                self._wait(request, deadline, select.POLLIN)
        except OSError as error:
            if isinstance(error, DeviceTimeoutError):
                self.close()
                raise
            raise self._gone(request) from error
        except ProtocolError:
            self.close()
            raise
        return None

    def open_back_channel(self, sock: socket.socket) -> None:
        """Serve the back-end's requests that arrive at ``sock``."""
        self._close_back_channel()
        self._responder = Responder(BACKEND_REQUESTS)
        self._responder.features = self.features
        self._back = Channel(sock)

    @property
    def back_channel_fd(self) -> int | None:
        """Readable when the back-end asks something."""
        return None if self._back is None else self._back.fileno()

    def serve_back_channel(self, timeout: float = 0) -> int:
        """Answer what was asked; wait up to ``timeout`` seconds for the first. Returns how many."""
        served = self._serve_back()
        if timeout and not served and self._back is not None:
            poller = select.poll()
            poller.register(self._back.fileno(), select.POLLIN)
            poller.poll(timeout * 1000)
            served = self._serve_back()
        return served

    def close(self) -> None:
        """Close both channels. Idempotent."""
        self._closed = True
        self._requester.close()
        self._channel.close()
        self._close_back_channel()

    def _close_back_channel(self) -> None:
        self._responder.close()
        if self._back is not None:
            self._back.close()
        self._back = None

    def _receive(self, request: FrontendRequest) -> bool:
        """Read what there is of the answer; whether it is complete (then in ``_answer``)."""
        while received := self._channel.receive(self._requester.wanted):
            self._requester.receive_data(received.data, received.fds)
            if not received.data:
                raise self._gone(request)
            if reply := self._requester.next_event():
                with reply:
                    self._answer = reply.payload
                self._answers += 1
                return True
        return False

    def _wait(self, request: FrontendRequest, deadline: float, events: int) -> None:
        """Until the main channel is ready; the back channel is served meanwhile."""
        poller = select.poll()
        poller.register(self._channel.fileno(), events)
        if self._back is not None:
            poller.register(self._back.fileno(), select.POLLIN)
        left = deadline - time.monotonic()
        if left <= 0 or not (ready := poller.poll(left * 1000)):
            raise DeviceTimeoutError(
                f"{self.name} did not answer {request.name} within {self.timeout:g} seconds",
                fix=self._advice(),
            )
        if any(fd != self._channel.fileno() for fd, _ in ready):
            self._serve_back()

    def _gone(self, request: FrontendRequest) -> DeviceGoneError:
        self.close()
        if not self._answers:
            return DeviceGoneError(
                f"{self.name} closed the connection at once, without a word of vhost-user", fix=self._advice()
            )
        return DeviceGoneError(f"{self.name} closed the connection at {request.name}")

    def _advice(self) -> str | None:
        if self._answers:
            return None
        return (
            "check that it is a vhost-user socket (not QMP, NBD, vfio-user ...) and that no other front-end "
            "is connected: a back-end serves one at a time"
        )

    def _serve_back(self) -> int:
        served = 0
        while self._back is not None and (received := self._back.receive(self._responder.wanted)):
            try:
                self._responder.receive_data(received.data, received.fds)
            except ProtocolError:
                self._close_back_channel()
                raise
            if not received.data:
                self._close_back_channel()
            elif event := self._responder.next_event():
                self._react(self._back, event)
                served += 1
        return served

    def _react(self, back: Channel, event: Request | Refused) -> None:
        if isinstance(event, Refused):
            outgoing = event.answer
        else:
            with event:
                answer = self._responder.answer(event, self._carry_out(event))
            if answer is None:
                return
            outgoing = answer
        try:
            back.send(outgoing)
        except OSError:
            self._close_back_channel()

    def _carry_out(self, request: Request) -> int:
        """Tell whom it concerns; 0, or 1 for what is not done here."""
        number = request.kind.request
        if number == BackendRequest.CONFIG_CHANGE_MSG:
            if self.on_config_change is not None:
                self.on_config_change()
            return 0
        if number in (BackendRequest.VRING_CALL, BackendRequest.VRING_ERR):
            assert isinstance(request.payload, VringState)
            tell = self.on_vring_call if number == BackendRequest.VRING_CALL else self.on_vring_err
            if tell is not None:
                tell(request.payload.index)
            return 0
        return 1
