"""The protocol without sockets: bytes and descriptors in, events out, for both roles and both channels.

A channel carries requests one way and answers the other way, so it has two halves:

=====================  =======================================  =====================================
channel                requests sent by (`Requester`)           requests answered by (`Responder`)
=====================  =======================================  =====================================
main                   front-end, `FRONTEND_REQUESTS`           back-end
SET_BACKEND_REQ_FD's   back-end, `BACKEND_REQUESTS`             front-end
=====================  =======================================  =====================================

Responder::

    IDLE --receive_data: request--> (next_event gives Request) --> ANSWER_DUE --answer()--> IDLE
    IDLE --receive_data: refusable request--> (next_event gives Refused, with the answer to send) --> IDLE
    any  --receive_data raises ProtocolError, or b""--> CLOSED

Requester::

    send() any number of times; each request that is to be answered waits in line;
    receive_data: answers come in the same order (next_event gives Reply)
    ProtocolError or b"" --> CLOSED

Whose fault: ProtocolError is the other side's; UsageError and ValueError are the caller's. Descriptors that
were received belong to the event that brought them and are closed with it unless taken out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum
from types import TracebackType
from typing import Self

from virtio.errors import ProtocolError, UsageError
from virtio.vhost_user.framing import Inbox, Message, Outgoing, close_all, compose
from virtio.vhost_user.messages import (
    NEED_REPLY,
    PER_REGION,
    PER_VRING,
    REPLY,
    Kind,
    PayloadType,
    ProtocolFeature,
    RequestTable,
)
from virtio.vhost_user.payloads import MemoryTable, Number, Payload, VringFd

__all__ = ["Refused", "Reply", "Request", "Requester", "Responder", "State"]


class State(Enum):
    """Where one half of a channel stands."""

    IDLE = "idle"
    ANSWER_DUE = "answer due"
    CLOSED = "closed"


class _WithFds:
    """Owns descriptors until they are taken; a context manager that closes the rest."""

    def __init__(self, fds: list[int]) -> None:
        self.fds = fds

    def take_fd(self) -> int | None:
        """Hand over the next descriptor: the caller closes it from now on. None if there is none left."""
        return self.fds.pop(0) if self.fds else None

    def close(self) -> None:
        """Close the descriptors that nobody took."""
        fds, self.fds = self.fds, []
        close_all(fds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Request(_WithFds):
    """A request that the other side may make and made correctly."""

    def __init__(self, kind: Kind, payload: Payload | None, fds: list[int], wants_answer: bool) -> None:
        super().__init__(fds)
        self.kind = kind
        self.payload = payload
        self.wants_answer = wants_answer

    def __repr__(self) -> str:
        return f"Request({self.kind.name}, {self.payload!r}, {len(self.fds)} fds)"


class Refused:
    """A request that was understood well enough to be refused: why, and the answer to send."""

    def __init__(self, error: ProtocolError, answer: Outgoing) -> None:
        self.error = error
        self.answer = answer


class Reply(_WithFds):
    """The answer to a request of ours. ``payload`` is None when it came empty where that is allowed."""

    def __init__(self, kind: Kind, payload: Payload | None, fds: list[int], acknowledgement: bool) -> None:
        super().__init__(fds)
        self.kind = kind
        self.payload = payload
        self.acknowledgement = acknowledgement

    def __repr__(self) -> str:
        return f"Reply({self.kind.name}, {self.payload!r}, {len(self.fds)} fds)"


class _Half:
    """What Responder and Requester share: the table, the negotiated features, the inbox."""

    def __init__(self, table: RequestTable) -> None:
        self._table = table
        self._inbox = Inbox()
        self._closed = False
        self.features = 0
        """The protocol features negotiated so far, as a mask; whoever acts on the messages sets it."""

    @property
    def wanted(self) -> int:
        """The most bytes to read from the socket now; 0 when closed."""
        return 0 if self._closed else self._inbox.wanted

    def has(self, feature: ProtocolFeature) -> bool:
        """Whether ``feature`` has been negotiated."""
        return bool(self.features & feature.mask)

    def close(self) -> None:
        """Nothing more will be received: descriptors that came and were not given out are closed."""
        self._closed = True
        self._inbox.close()

    def _take_in(self, data: bytes, fds: Iterable[int]) -> Message | None:
        if self._closed:
            close_all(fds)
            raise UsageError("the channel is closed")
        if data:
            return self._inbox.add(data, fds)
        close_all(fds)
        partial = self._inbox.partial
        self.close()
        if partial:
            raise ProtocolError("the connection ended in the middle of a message")
        return None


class Responder(_Half):
    """The side that is asked and answers, one request at a time."""

    def __init__(self, table: RequestTable) -> None:
        super().__init__(table)
        self._event: Request | Refused | None = None
        self._due: Request | None = None

    @property
    def state(self) -> State:
        """Where the exchange stands."""
        if self._closed:
            return State.CLOSED
        return State.ANSWER_DUE if self._due is not None or self._event is not None else State.IDLE

    def receive_data(self, data: bytes, fds: Iterable[int] = ()) -> None:
        """Take in at most `wanted` bytes and their descriptors; ``b""`` says that the other side left.

        Raises ProtocolError for what can be neither understood nor refused: the connection is then over.
        UsageError if the previous request was not answered yet.
        """
        if self.state is State.ANSWER_DUE:
            close_all(fds)
            raise UsageError("the previous request has not been answered")
        try:
            message = self._take_in(data, fds)
            if message is not None:
                self._event = self._judge(message)
        except ProtocolError:
            self.close()
            raise

    def next_event(self) -> Request | Refused | None:
        """The request that is complete now, or None: more data is wanted (or the channel is closed)."""
        event, self._event = self._event, None
        if isinstance(event, Request):
            self._due = event
        return event

    def answer(
        self, request: Request, result: Payload | int | None = 0, fds: tuple[int, ...] = ()
    ) -> Outgoing | None:
        """Finish ``request``; return what to send, None when nothing is.

        ``result`` is the payload of a request that has a reply of its own (None: an empty one, the protocol's
        way to refuse a GET_CONFIG), else 0 for success or another number for failure, sent if asked for.
        """
        if request is not self._due:
            raise UsageError(f"{request.kind.name} is not waiting for an answer")
        self._due = None
        kind = request.kind
        if kind.reply is not None:
            payload = Number(result) if isinstance(result, int) else result
            return compose(int(kind.request), REPLY, payload, fds)
        if not (request.wants_answer and self.has(ProtocolFeature.REPLY_ACK)):
            return None
        assert isinstance(result, int)
        return compose(int(kind.request), REPLY, Number(result))

    def close(self) -> None:
        """Nothing more will be received or answered."""
        super().close()
        if isinstance(self._event, Request):
            self._event.close()
        if self._due is not None:
            self._due.close()
        self._event = self._due = None

    def _judge(self, message: Message) -> Request | Refused:
        kind = self._table.get(message.number)
        try:
            return self._accept(kind, message)
        except ProtocolError as error:
            close_all(message.fds)
            own_reply = kind is not None and kind.reply is not None
            asked = message.flags & NEED_REPLY and self.has(ProtocolFeature.REPLY_ACK)
            if message.flags & REPLY or own_reply or not asked:
                raise
            return Refused(error, compose(message.number, REPLY, Number(1)))

    def _accept(self, kind: Kind | None, message: Message) -> Request:
        if message.flags & REPLY:
            raise ProtocolError(f"a reply (request {message.number}) arrived on the channel of requests")
        if kind is None:
            raise ProtocolError(f"request {message.number} does not exist")
        if kind.feature is not None and not self.has(kind.feature):
            raise ProtocolError(
                f"{kind.name} needs the protocol feature {kind.feature.name}, which is not negotiated"
            )
        payload = _decoded(kind.name, kind.payload, message.payload)
        _check_fds(kind, payload, len(message.fds))
        return Request(kind, payload, message.fds, bool(message.flags & NEED_REPLY))


class Requester(_Half):
    """The side that asks. Answers come in the order of the requests."""

    def __init__(self, table: RequestTable) -> None:
        super().__init__(table)
        self._waiting: deque[tuple[Kind, bool]] = deque()
        self._event: Reply | None = None

    @property
    def state(self) -> State:
        """Where the exchange stands."""
        if self._closed:
            return State.CLOSED
        return State.ANSWER_DUE if self._waiting else State.IDLE

    @property
    def outstanding(self) -> int:
        """How many answers are still to come."""
        return len(self._waiting)

    def send(
        self,
        number: int,
        payload: Payload | None = None,
        fds: tuple[int, ...] = (),
        *,
        acknowledge: bool = True,
    ) -> Outgoing:
        """Make a request; return what to send. The descriptors stay the caller's.

        An acknowledgement is asked for if ``acknowledge``, REPLY_ACK is negotiated and the request has no
        reply of its own. UsageError if the request needs a protocol feature that was not negotiated, or is
        given a wrong payload.
        """
        kind = self._table[number]
        if self._closed:
            raise UsageError("the channel is closed")
        if kind.feature is not None and not self.has(kind.feature):
            raise UsageError(
                f"{kind.name} needs the protocol feature {kind.feature.name}, which is not negotiated"
            )
        if (kind.payload is None) is not (payload is None) or (
            kind.payload is not None and not isinstance(payload, kind.payload)
        ):
            raise UsageError(f"{kind.name} does not take {type(payload).__name__}")
        ask = acknowledge and kind.reply is None and self.has(ProtocolFeature.REPLY_ACK)
        if kind.reply is not None or ask:
            self._waiting.append((kind, ask))
        return compose(number, NEED_REPLY if ask else 0, payload, fds)

    def receive_data(self, data: bytes, fds: Iterable[int] = ()) -> None:
        """Take in at most `wanted` bytes and their descriptors; ``b""`` says that the other side left.

        Raises ProtocolError for anything but the answer that is due: the connection is then over.
        """
        if self._event is not None:
            close_all(fds)
            raise UsageError("the previous answer has not been fetched")
        try:
            message = self._take_in(data, fds)
            if message is not None:
                self._event = self._match(message)
        except ProtocolError:
            self.close()
            raise

    def next_event(self) -> Reply | None:
        """The answer that is complete now, or None: more data is wanted (or the channel is closed)."""
        event, self._event = self._event, None
        return event

    def close(self) -> None:
        """Nothing more will be sent or received."""
        super().close()
        if self._event is not None:
            self._event.close()
        self._event = None
        self._waiting.clear()

    def _match(self, message: Message) -> Reply:
        try:
            return self._answer(message)
        except ProtocolError:
            close_all(message.fds)
            raise

    def _answer(self, message: Message) -> Reply:
        if not message.flags & REPLY:
            raise ProtocolError(f"a request ({message.number}) arrived where only answers may")
        if not self._waiting:
            raise ProtocolError(f"an answer to request {message.number} arrived and none was asked for")
        kind, acknowledgement = self._waiting[0]
        if message.number != kind.request:
            raise ProtocolError(f"{kind.name} ({int(kind.request)}) was answered as request {message.number}")
        if len(message.fds) > (0 if acknowledgement else kind.reply_fds):
            raise ProtocolError(f"the answer to {kind.name} carries {len(message.fds)} descriptors")
        expected = Number if acknowledgement else kind.reply
        if kind.empty_reply and not message.payload:
            expected = None
        payload = _decoded(f"the answer to {kind.name}", expected, message.payload)
        self._waiting.popleft()
        return Reply(kind, payload, message.fds, acknowledgement)


def _decoded(what: str, payload_type: PayloadType | None, data: bytes) -> Payload | None:
    if payload_type is None:
        if data:
            raise ProtocolError(f"{what} takes no payload and carries {len(data)} bytes")
        return None
    try:
        return payload_type.unpack(data)
    except ValueError as error:
        raise ProtocolError(f"{what}: {error}") from error


def _check_fds(kind: Kind, payload: Payload | None, count: int) -> None:
    """Whether as many descriptors came as the request must bring."""
    allowed = kind.fds
    if allowed == (PER_REGION,):
        assert isinstance(payload, MemoryTable)
        allowed = (0, len(payload.regions))
    elif allowed == (PER_VRING,):
        assert isinstance(payload, VringFd)
        allowed = (1,) if payload.has_fd else (0,)
    if count not in allowed:
        wanted = " or ".join(map(str, allowed))
        raise ProtocolError(f"{kind.name} carries {count} descriptors instead of {wanted}")
