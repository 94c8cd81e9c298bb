"""The message tables are whole, and every request is accepted in its right form and refused in others."""

import os

import pytest

from virtio.errors import ProtocolError
from virtio.spec import vhost_user as data
from virtio.vhost_user import messages as m
from virtio.vhost_user import payloads as p
from virtio.vhost_user.connection import Refused, Request, Responder
from virtio.vhost_user.framing import compose

TABLES = {"front-end": m.FRONTEND_REQUESTS, "back-end": m.BACKEND_REQUESTS}
KINDS = [(side, kind) for side, table in TABLES.items() for kind in table.values()]
KIND = pytest.mark.parametrize(("side", "kind"), KINDS, ids=[f"{side}-{kind.name}" for side, kind in KINDS])
ALL_FEATURES = (1 << 23) - 1


def test_numbers_have_no_gaps() -> None:
    assert sorted(m.FRONTEND_REQUESTS) == list(range(1, 45))
    assert sorted(m.BACKEND_REQUESTS) == list(range(1, 11))
    assert sorted(m.ProtocolFeature) == list(range(23))


def test_the_specification_as_data_says_the_same() -> None:
    """`virtio.spec.vhost_user` is for reading, our tables are for speaking; they must not drift apart."""
    assert {feature.name: int(feature) for feature in m.ProtocolFeature} == data.PROTOCOL_FEATURES
    assert (m.F_LOG_ALL, m.F_PROTOCOL_FEATURES) == (data.F_LOG_ALL, data.F_PROTOCOL_FEATURES)
    for table, described in ((m.FRONTEND_REQUESTS, data.FRONTEND), (m.BACKEND_REQUESTS, data.BACKEND)):
        assert {number: kind.name for number, kind in table.items()} == {
            one.id: one.name for one in described
        }
        for one in described:
            kind = table[one.id]
            assert (one.reply == "ack") == (kind.reply is None), one.name
            assert bool(one.payload) == (kind.payload is not None), one.name
            if one.needs in data.PROTOCOL_FEATURES:
                assert kind.feature is not None
                assert kind.feature.name == one.needs


def test_feature_names() -> None:
    assert m.feature_names(1 << 3 | 1 << 9 | 1 << 60) == ["REPLY_ACK", "CONFIG", "bit 60"]


def sample(kind: m.Kind) -> p.Payload | None:
    """A payload that is right in form."""
    if kind.payload is None:
        return None
    if kind.payload is p.MemoryTable:
        return p.MemoryTable((p.MemoryRegion(0, 4096, 0, 0),))
    if kind.payload is p.ConfigSpace:
        return p.ConfigSpace(0, bytes(8))
    if kind.payload is p.Opaque:
        return p.Opaque(bytes(40))
    if kind.payload is p.ShmemSizes:
        return p.ShmemSizes({0: 4096})
    return kind.payload.unpack(bytes(kind.payload.size))


def fds_of(kind: m.Kind) -> list[int]:
    count = 1 if kind.fds[0] < 0 else kind.fds[-1]
    return [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]


def receive(side: str, kind: m.Kind, fds: list[int], *, payload: bytes | None = None, flags: int = 0,
            features: int = ALL_FEATURES) -> Request | Refused | None:  # fmt: skip
    responder = Responder(TABLES[side])
    responder.features = features
    data = compose(int(kind.request), flags, p.Opaque(payload) if payload is not None else sample(kind)).data
    responder.receive_data(data[:12], fds)
    if len(data) > 12:
        responder.receive_data(data[12:])
    event = responder.next_event()
    if isinstance(event, Request):
        assert (responder.answer(event) is not None) == (event.kind.reply is not None or bool(flags))
        event.close()
    return event


@KIND
@pytest.mark.usefixtures("no_fd_leaks")
def test_accepted(side: str, kind: m.Kind) -> None:
    event = receive(side, kind, fds_of(kind))
    assert isinstance(event, Request)
    assert event.kind is kind
    assert event.payload == sample(kind)


@pytest.mark.usefixtures("no_fd_leaks")
@pytest.mark.parametrize(("side", "kind"), [(s, k) for s, k in KINDS if k.payload is not p.Opaque])
def test_wrong_payload_size(side: str, kind: m.Kind) -> None:
    with pytest.raises(ProtocolError, match=kind.name):
        receive(side, kind, fds_of(kind), payload=bytes(3))


@KIND
@pytest.mark.usefixtures("no_fd_leaks")
def test_too_many_descriptors(side: str, kind: m.Kind) -> None:
    fds = [*fds_of(kind), os.open("/dev/null", os.O_RDONLY)]
    with pytest.raises(ProtocolError, match="descriptors"):
        receive(side, kind, fds)


@pytest.mark.usefixtures("no_fd_leaks")
@pytest.mark.parametrize(
    ("side", "kind"), [(s, k) for s, k in KINDS if 0 not in k.fds and k.fds != (m.PER_REGION,)]
)
def test_missing_descriptor(side: str, kind: m.Kind) -> None:
    with pytest.raises(ProtocolError, match="0 descriptors"):
        receive(side, kind, [])


@pytest.mark.usefixtures("no_fd_leaks")
@pytest.mark.parametrize(("side", "kind"), [(s, k) for s, k in KINDS if k.feature is not None])
def test_not_negotiated(side: str, kind: m.Kind) -> None:
    assert kind.feature is not None
    with pytest.raises(ProtocolError, match=kind.feature.name):
        receive(side, kind, fds_of(kind), features=ALL_FEATURES & ~kind.feature.mask)


@KIND
@pytest.mark.usefixtures("no_fd_leaks")
def test_refused_politely_if_asked_to(side: str, kind: m.Kind) -> None:
    """With REPLY_ACK and NEED_REPLY a failure is an answer, unless the request has a reply of its own."""
    fds = [*fds_of(kind), os.open("/dev/null", os.O_RDONLY)]
    if kind.reply is not None:
        with pytest.raises(ProtocolError):
            receive(side, kind, fds, flags=m.NEED_REPLY)
        return
    event = receive(side, kind, fds, flags=m.NEED_REPLY)
    assert isinstance(event, Refused)
    assert event.answer == compose(int(kind.request), m.REPLY, p.Number(1))
