"""One connected front-end: its socket, its requests, and what goes back to it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from virtio.errors import NotSharedError, PeerError, ProtocolError, VirtioError
from virtio.vhost_user.backchannel import BackChannel
from virtio.vhost_user.connection import Refused, Request, Responder
from virtio.vhost_user.control import Answer, DeviceControl
from virtio.vhost_user.loop import ControlLoop
from virtio.vhost_user.messages import FRONTEND_REQUESTS, FrontendRequest, ProtocolFeature
from virtio.vhost_user.payloads import ConfigSpace, Number
from virtio.vhost_user.socket import Channel

if TYPE_CHECKING:
    from virtio.device import Attachment

__all__ = ["Attach", "BackendSession"]

Attach: TypeAlias = "Callable[[Callable[[], None], Callable[[int, VirtioError], None]], Attachment]"
"""Makes an Attachment, given what to call when the configuration changes and when a ring meets a fault."""


_READS = 64
"""Reads in a row from one front-end before others have their turn; a message takes two."""


_LOOK_SECONDS = 1.0
_LOOKS = 10
"""How often, and how many times, it is asked whether a ring's memory is really shared."""


class BackendSession:
    """Serves one front-end until it leaves, breaks the protocol, or `close` is called.

    Everything runs in callbacks of ``loop``. ``on_report`` hears of each error; ``on_end`` is called once,
    when all is released. ``withhold`` is a mask of protocol features not to offer.
    """

    def __init__(
        self,
        loop: ControlLoop,
        sock: socket.socket,
        attach: Attach,
        *,
        on_report: Callable[[VirtioError], None],
        on_end: Callable[[], None],
        withhold: int = 0,
    ) -> None:
        self._loop = loop
        self._on_report = on_report
        self._on_end = on_end
        self._channel = Channel(sock)
        self._responder = Responder(FRONTEND_REQUESTS)
        self._back: BackChannel | None = None
        self._calls: dict[int, int] = {}
        self._config_dirty = False
        self._complained = False
        self._looks_left = 0
        self._closed = False
        try:
            attachment = attach(self._config_changed_anywhere, self._fault_anywhere)
        except BaseException:
            self._channel.close()
            raise
        self._control = DeviceControl(attachment, withhold=withhold)
        loop.on_readable(self._channel.fileno(), self._receive)

    def close(self) -> None:
        """Drain and stop the rings, close the sockets. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._loop.forget(self._channel.fileno())
        for index in list(self._calls):
            self._disarm(index)
        try:
            self._control.close()
        finally:
            self._responder.close()
            if self._back is not None:
                self._back.close()
            self._channel.close()
            self._on_end()

    # --- the main channel ---

    def _receive(self) -> None:
        try:
            for _ in range(_READS):
                if self._closed or self._channel.unsent or not self._read():
                    return
        except VirtioError as error:
            self._report(error)
            self.close()
        except ConnectionError:
            self.close()
        except Exception as error:
            # A bug, or a device's own code: it ends this connection, not the service.
            self._report(VirtioError(f"the session failed: {type(error).__name__}: {error}"))
            self.close()

    def _read(self) -> bool:
        """Read once and react; whether there may be more."""
        received = self._channel.receive(self._responder.wanted)
        if received is None:
            return False
        self._responder.receive_data(received.data, received.fds)
        if not received.data:
            self._left()
        elif event := self._responder.next_event():
            self._react(event)
        return True

    def _left(self) -> None:
        if (
            self._control.feature_mask
            and self._control.asked_for_rings
            and not self._control.has_memory
            and not self._complained
        ):
            self._on_report(NotSharedError("the front-end set up rings and left without sharing any memory"))
        self.close()

    def _look_at_memory_soon(self) -> None:
        if not self._looks_left:
            self._loop.call_later(_LOOK_SECONDS, self._look_at_memory)
        self._looks_left = _LOOKS

    def _look_at_memory(self) -> None:
        self._looks_left -= 1
        try:
            private = None if self._closed else self._control.may_be_private()
        except VirtioError:
            private = False  # memory that went away is found out where it is used
        if private:
            self._report(
                NotSharedError(
                    "the driver notifies its queues, but there is nothing in them nor elsewhere in the "
                    "memory that the front-end shared: the guest runs on a private copy"
                )
            )
        if self._closed or private is not None:
            self._looks_left = 0
        elif self._looks_left:
            self._loop.call_later(_LOOK_SECONDS, self._look_at_memory)

    def _react(self, event: Request | Refused) -> None:
        if isinstance(event, Refused):
            self._report(event.error)
            self._channel.send(event.answer)
        else:
            with event:
                self._serve(event)
        if self._channel.unsent:
            # A front-end that does not read its answers is not asked for more requests.
            self._loop.on_readable(self._channel.fileno(), None)
            self._loop.on_writable(self._channel.fileno(), self._flush)
        if self._config_dirty:
            self._tell_config()

    def _flush(self) -> None:
        try:
            self._channel.flush()
        except OSError:
            self.close()
            return
        if not self._channel.unsent:
            self._loop.on_writable(self._channel.fileno(), None)
            self._loop.on_readable(self._channel.fileno(), self._receive)

    def _serve(self, request: Request) -> None:
        try:
            result = self._handle(request)
        except VirtioError as error:
            result = self._refusal(request, error)
            self._report(error)
        outgoing = self._responder.answer(request, result)
        if outgoing is not None:
            self._channel.send(outgoing)

    def _handle(self, request: Request) -> Answer:
        if request.kind.request == FrontendRequest.SET_BACKEND_REQ_FD:
            return self._open_back_channel(request)
        result = self._control.handle(request)
        if request.kind.request == FrontendRequest.GET_VRING_BASE:
            self._pass_on_calls()
        if request.kind.request == FrontendRequest.SET_VRING_KICK:
            self._look_at_memory_soon()
        self._responder.features = self._control.protocol_features
        if request.kind.request in (FrontendRequest.RESET_DEVICE, FrontendRequest.SET_STATUS):
            self._rearm()
        self._arm()
        return result

    def _refusal(self, request: Request, error: VirtioError) -> Answer:
        """How to say no to ``request``; if the protocol has no way, the error ends the session."""
        if request.kind.reply is ConfigSpace:
            return None
        if request.kind.reply is Number:
            return 1
        asked = request.wants_answer and self._responder.has(ProtocolFeature.REPLY_ACK)
        if request.kind.reply is not None or not asked:
            raise error
        return 1

    # --- the back-end's own channel ---

    def _open_back_channel(self, request: Request) -> int:
        fd = request.take_fd()
        assert fd is not None
        if self._back is not None:
            self._back.close()
            self._back = None
        try:
            self._back = BackChannel(self._loop, fd, self._control.protocol_features, self._report)
        except OSError as error:
            os.close(fd)
            raise ProtocolError(f"SET_BACKEND_REQ_FD came without a socket: {error}") from error
        return 0

    def _config_changed_anywhere(self) -> None:
        self._loop.call(self._config_changed)

    def _config_changed(self) -> None:
        self._config_dirty = True
        self._tell_config()

    def _tell_config(self) -> None:
        """Pass a change on, but not while the device is suspended (no ring runs): then once one does."""
        if self._closed or self._control.suspended:
            return
        self._config_dirty = False
        if self._back is not None and self._responder.has(ProtocolFeature.CONFIG):
            self._back.config_changed()

    def _fault_anywhere(self, index: int, error: VirtioError) -> None:
        self._loop.call(lambda: self._fault(index, error))

    def _fault(self, index: int, error: VirtioError) -> None:
        if self._closed:
            return
        self._report(error)
        # Only where calls are in-band too: QEMU 7.2 accepts INBAND_NOTIFICATIONS without knowing what it is.
        if self._back is not None and index in self._calls and not self._control.rings[index].has_err:
            self._back.err(index)

    # --- in-band notifications ---

    @property
    def _inband(self) -> bool:
        return self._responder.has(ProtocolFeature.INBAND_NOTIFICATIONS)

    def _arm(self) -> None:
        """Give each ring without a call descriptor one of ours, to be turned into VRING_CALL."""
        for index, ring in enumerate(self._control.rings):
            if ring.call_settled and index in self._calls:
                self._disarm(index)
            elif self._inband and not ring.call_settled and index not in self._calls:
                fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                self._calls[index] = fd
                self._loop.on_readable(fd, partial(self._call, index))
                ring.vring.set_call(os.dup(fd))

    def _rearm(self) -> None:
        """After a reset the rings have forgotten our descriptors."""
        for index in list(self._calls):
            if not self._control.feature_mask:
                self._disarm(index)

    def _disarm(self, index: int) -> None:
        fd = self._calls.pop(index)
        self._loop.forget(fd)
        os.close(fd)

    def _call(self, index: int) -> None:
        try:
            os.eventfd_read(self._calls[index])
        except BlockingIOError:
            return
        if self._back is not None:
            self._back.call(index)

    def _pass_on_calls(self) -> None:
        """A ring is stopped: what it still had to say is said before the answer."""
        for index in self._calls:
            self._call(index)

    def _report(self, error: VirtioError) -> None:
        self._complained = self._complained or isinstance(error, PeerError)
        self._on_report(error)
