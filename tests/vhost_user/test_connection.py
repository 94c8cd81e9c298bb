"""Both halves of a channel without sockets: order, guards, faults, and any way to cut the bytes."""

import os
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from virtio.errors import ProtocolError, UsageError
from virtio.vhost_user import messages as m
from virtio.vhost_user import payloads as p
from virtio.vhost_user.connection import Refused, Reply, Request, Requester, Responder, State
from virtio.vhost_user.framing import MAX_FDS, MAX_PAYLOAD, Inbox, compose

F = m.FrontendRequest
P = m.ProtocolFeature

pytestmark = pytest.mark.usefixtures("no_fd_leaks")


def open_fds(count: int) -> list[int]:
    return [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]


def feed(half: Responder | Requester, data: bytes, fds: list[int] | None = None) -> list[object]:
    """All of ``data`` in the largest bites allowed."""
    events: list[object] = []
    fds = fds or []
    while data:
        bite, data = data[: half.wanted], data[half.wanted :]
        half.receive_data(bite, fds)
        fds = []
        if event := half.next_event():
            events.append(event)
            if isinstance(event, Request) and isinstance(half, Responder):
                half.answer(event, _result(event))
    return events


def _result(event: Request) -> p.Payload | int:
    return p.VringState(0, 0) if event.kind.reply is p.VringState else 0


def back_end() -> Responder:
    responder = Responder(m.FRONTEND_REQUESTS)
    responder.features = P.REPLY_ACK.mask | P.CONFIG.mask
    return responder


def front_end(features: int = P.REPLY_ACK.mask | P.CONFIG.mask) -> Requester:
    requester = Requester(m.FRONTEND_REQUESTS)
    requester.features = features
    return requester


MESSAGES = [
    (F.SET_OWNER, None, 0),
    (F.GET_FEATURES, None, 0),
    (F.SET_FEATURES, p.Number(5), 0),
    (F.SET_VRING_KICK, p.VringFd.of(1), 1),
    (F.SET_VRING_KICK, p.VringFd.of(1, False), 0),
    (F.SET_MEM_TABLE, p.MemoryTable((p.MemoryRegion(0, 1, 2, 3),) * 3), 3),
    (F.GET_CONFIG, p.ConfigSpace(0, bytes(60)), 0),
    (F.SET_VRING_ADDR, p.VringAddress(0, 0, 1, 2, 3), 0),
]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chosen=st.lists(st.sampled_from(MESSAGES), max_size=6),
    flags=st.sampled_from([0, m.NEED_REPLY]),
    cuts=st.lists(st.integers(1, 40), min_size=1),
)
def test_any_cut_gives_the_same_events(
    chosen: list[tuple[F, p.Payload | None, int]], flags: int, cuts: list[int]
) -> None:
    responder = back_end()
    seen = []
    for number, payload, count in chosen:
        data, fds = compose(number, flags, payload).data, open_fds(count)
        while data:
            cut = min(cuts[0], responder.wanted)
            cuts = [*cuts[1:], cuts[0]]
            bite, data = data[:cut], data[cut:]
            responder.receive_data(bite, fds)
            fds = []
            event = responder.next_event()
            assert (event is not None) == (not data)
            if isinstance(event, Request):
                seen.append((F(event.kind.request), event.payload, len(event.fds)))
                assert responder.state is State.ANSWER_DUE
                with event:
                    answer = responder.answer(event, _result(event))
                assert (answer is not None) == (event.kind.reply is not None or flags == m.NEED_REPLY)
    assert seen == chosen
    assert responder.state is State.IDLE


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    blobs=st.lists(
        st.tuples(
            st.builds(
                lambda number, flags, size, body: struct.pack("=III", number, flags, size) + body,
                st.integers(0, 50),
                st.sampled_from([0, 1, 5, 9, 13, 2, 0xFFFFFFFF]),
                st.integers(0, 80) | st.just(0xFFFFFFFF),
                st.binary(max_size=80),
            )
            | st.binary(max_size=60),
            st.integers(0, 10),
        ),
        max_size=5,
    ),
    half=st.sampled_from(["responder", "requester"]),
    features=st.integers(0, (1 << 23) - 1),
)
def test_noise_gives_events_or_one_named_error(
    blobs: list[tuple[bytes, int]], half: str, features: int
) -> None:
    """Whatever arrives: no other exception, no descriptor left open, closed after a fatal error."""
    channel: Responder | Requester = back_end() if half == "responder" else front_end()
    channel.features = features
    try:
        for data, count in blobs:
            for event in feed(channel, data, open_fds(count) if data else None):
                if isinstance(event, Request | Reply):
                    event.close()
    except ProtocolError:
        assert channel.state is State.CLOSED
        assert channel.wanted == 0
    channel.close()


@pytest.mark.parametrize("version", [0, 2, 3])
def test_wrong_version(version: int) -> None:
    with pytest.raises(ProtocolError, match=f"version {version}"):
        feed(back_end(), struct.pack("=III", 1, version, 0), open_fds(2))


def test_a_vfio_user_reply_is_recognised() -> None:
    with pytest.raises(ProtocolError, match="vfio-user"):
        feed(front_end(), struct.pack("=HHIII", 3, 0, 16, 0x21, 22)[:12])


def test_oversize() -> None:
    feed(back_end(), compose(F.CREATE_CRYPTO_SESSION, 0, None).data[:8])
    with pytest.raises(ProtocolError, match="announces"):
        feed(back_end(), struct.pack("=III", 5, 1, MAX_PAYLOAD + 1), open_fds(1))


def test_too_many_descriptors_for_any_message() -> None:
    with pytest.raises(ProtocolError, match="descriptors came"):
        feed(back_end(), b"\x01", open_fds(MAX_FDS + 1))


def test_reading_past_a_message_is_the_callers_fault() -> None:
    inbox = Inbox()
    with pytest.raises(ValueError, match="wanted"):
        inbox.add(bytes(13), open_fds(1))


@pytest.mark.parametrize(("data", "complaint"), [(b"", None), (b"\x01", "middle"), (bytes(11), "middle")])
def test_the_end(data: bytes, complaint: str | None) -> None:
    responder = back_end()
    if data:
        responder.receive_data(data, open_fds(1))
    if complaint is None:
        responder.receive_data(b"")
        assert responder.next_event() is None
    else:
        with pytest.raises(ProtocolError, match=complaint):
            responder.receive_data(b"")
    assert responder.state is State.CLOSED
    with pytest.raises(UsageError, match="closed"):
        responder.receive_data(b"x", open_fds(1))


def test_unknown_request() -> None:
    with pytest.raises(ProtocolError, match="request 99 does not exist"):
        feed(back_end(), compose(99, 0, None).data)
    (event,) = feed(back_end(), compose(99, m.NEED_REPLY, None).data)
    assert isinstance(event, Refused)
    assert event.answer == compose(99, m.REPLY, p.Number(1))


def test_a_refusal_needs_reply_ack() -> None:
    responder = back_end()
    responder.features = 0
    with pytest.raises(ProtocolError, match="99"):
        feed(responder, compose(99, m.NEED_REPLY, None).data)


def test_a_reply_on_the_channel_of_requests() -> None:
    with pytest.raises(ProtocolError, match="reply"):
        feed(back_end(), compose(F.SET_OWNER, m.REPLY | m.NEED_REPLY, None).data)


def test_one_request_at_a_time() -> None:
    responder = back_end()
    responder.receive_data(compose(F.SET_OWNER, 0, None).data)
    with pytest.raises(UsageError, match="not been answered"):
        responder.receive_data(b"x", open_fds(1))
    event = responder.next_event()
    assert isinstance(event, Request)
    with pytest.raises(UsageError, match="not been answered"):
        responder.receive_data(b"x")
    assert responder.answer(event) is None
    with pytest.raises(UsageError, match="not waiting"):
        responder.answer(event)


def test_closing_closes_what_nobody_took() -> None:
    responder = back_end()
    data = compose(F.SET_VRING_KICK, 0, p.VringFd.of(0)).data
    responder.receive_data(data[:12], open_fds(1))
    responder.receive_data(data[12:])
    responder.close()
    responder = back_end()
    responder.receive_data(data[:12], open_fds(1))
    responder.receive_data(data[12:])
    assert isinstance(responder.next_event(), Request)
    responder.close()


def test_taken_descriptors_are_the_takers() -> None:
    responder = back_end()
    data = compose(F.SET_VRING_KICK, 0, p.VringFd.of(0)).data
    responder.receive_data(data[:12], open_fds(1))
    responder.receive_data(data[12:])
    event = responder.next_event()
    assert isinstance(event, Request)
    with event:
        fd = event.take_fd()
        assert event.take_fd() is None
    assert fd is not None
    os.fstat(fd)
    os.close(fd)


def test_answers_match_requests_in_order() -> None:
    requester = front_end()
    requester.send(F.GET_FEATURES)
    requester.send(F.SET_OWNER)
    requester.send(F.SET_OWNER, acknowledge=False)
    assert requester.outstanding == 2
    (first,) = feed(requester, compose(F.GET_FEATURES, m.REPLY, p.Number(7)).data)
    (second,) = feed(requester, compose(F.SET_OWNER, m.REPLY, p.Number(0)).data)
    assert isinstance(first, Reply)
    assert isinstance(second, Reply)
    assert (first.payload, first.acknowledgement) == (p.Number(7), False)
    assert (second.payload, second.acknowledgement) == (p.Number(0), True)
    assert requester.state is State.IDLE


@pytest.mark.parametrize(
    ("data", "fds", "complaint"),
    [
        (compose(F.SET_OWNER, m.REPLY, p.Number(0)).data, 0, "answered as request"),
        (compose(F.GET_FEATURES, 0, p.Number(0)).data, 0, "only answers"),
        (compose(F.GET_FEATURES, m.REPLY, None).data, 0, "8 bytes"),
        (compose(F.GET_FEATURES, m.REPLY, p.Number(0)).data, 1, "1 descriptors"),
    ],
)
def test_a_wrong_answer(data: bytes, fds: int, complaint: str) -> None:
    requester = front_end()
    requester.send(F.GET_FEATURES)
    with pytest.raises(ProtocolError, match=complaint):
        feed(requester, data, open_fds(fds))
    assert requester.state is State.CLOSED
    with pytest.raises(UsageError, match="closed"):
        requester.send(F.GET_FEATURES)


def test_an_answer_nobody_asked_for() -> None:
    with pytest.raises(ProtocolError, match="none was asked"):
        feed(front_end(), compose(F.GET_FEATURES, m.REPLY, p.Number(0)).data)


def test_an_empty_answer_refuses_a_config_read() -> None:
    requester = front_end()
    requester.send(F.GET_CONFIG, p.ConfigSpace(0, bytes(4)))
    (reply,) = feed(requester, compose(F.GET_CONFIG, m.REPLY, None).data)
    assert isinstance(reply, Reply)
    assert reply.payload is None


def test_requests_are_checked_before_they_are_sent() -> None:
    requester = front_end(features=0)
    with pytest.raises(UsageError, match="CONFIG"):
        requester.send(F.GET_CONFIG, p.ConfigSpace(0, b""))
    with pytest.raises(UsageError, match="does not take"):
        requester.send(F.SET_FEATURES)
    with pytest.raises(UsageError, match="does not take"):
        requester.send(F.SET_OWNER, p.Number(1))
    with pytest.raises(UsageError, match="does not take"):
        requester.send(F.SET_FEATURES, p.VringState(0, 0))


def test_without_reply_ack_nothing_is_acknowledged() -> None:
    requester = front_end(features=0)
    assert requester.send(F.SET_OWNER).data[4:8] == struct.pack("=I", 1)
    assert requester.outstanding == 0


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=st.lists(st.sampled_from(MESSAGES), max_size=8))
def test_both_roles_understand_each_other(chosen: list[tuple[F, p.Payload | None, int]]) -> None:
    front, back = front_end(), back_end()
    for number, payload, count in chosen:
        fds = open_fds(count)
        outgoing = front.send(number, payload, tuple(fds))
        back.receive_data(outgoing.data[:12], fds)
        if len(outgoing.data) > 12:
            back.receive_data(outgoing.data[12:])
        event = back.next_event()
        assert isinstance(event, Request)
        with event:
            answer = back.answer(
                event, event.payload if event.kind.reply is p.ConfigSpace else _result(event)
            )
        assert answer is not None
        (reply,) = feed(front, answer.data)
        assert isinstance(reply, Reply)
    assert front.outstanding == 0
