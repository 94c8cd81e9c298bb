"""What a handler can do with a request, wherever the driver put its bytes."""

import gc

import pytest

from virtio.device import Device, Queue, Request
from virtio.errors import RequestUseError


class Probe(Device):
    """Runs a function of the test's on each request, and keeps what it returns or raises."""

    device_id = 42
    queues = (Queue("requests"),)

    def __init__(self):
        self.act = None
        self.result = None

    def requests(self, request):
        self.result = self.act(request)

    def failed(self, request, error):
        self.result = error
        if not request.completed:
            request.complete(0)


@pytest.fixture
def run(guest):
    """Sends one request to a function; what came back to the driver, and what the function returned."""
    device = Probe()
    ring = guest(device).ring().set_up()

    def go(act, data=b"", room=0, pieces=1):
        device.act = act
        answer = ring.ask(data, room, pieces=pieces)
        return answer, device.result

    return go


def test_lengths(run):
    _, result = run(lambda r: (r.readable_length, r.writable_length, r.queue_index), b"12345", 7, pieces=2)
    assert result == (5, 7, 0)


def test_contiguous_parts_are_guest_memory_itself(run):
    def act(request):
        assert request.readable.readonly
        assert request.readable is request.readable
        request.writable[:3] = request.readable[:3]
        request.complete(3)

    assert run(act, b"abcdef", 8) == (b"abc", None)


def test_scattered_parts(run):
    def act(request):
        assert bytes(request.readable) == b"abcdefgh"
        assert [bytes(part) for part in request.readable_parts] == [b"abc", b"def", b"gh"]
        assert [len(part) for part in request.writable_parts] == [3, 3, 2]
        request.writable_parts[2][:] = b"89"
        request.writable_parts[0][:] = b"123"
        request.complete(8)

    assert run(act, b"abcdefgh", 8, pieces=3) == (b"123\0\0\x0089", None)


def test_writable_of_scattered_buffers_says_what_to_use(run):
    answer, error = run(lambda request: request.writable, b"", 8, pieces=2)
    assert answer == b""
    assert isinstance(error, RequestUseError)
    assert "write() or writable_parts" in str(error)


def test_empty_parts(run):
    def act(request):
        assert bytes(request.writable) == b""
        assert request.writable_parts == ()
        return bytes(request.readable)

    assert run(act, b"x") == (b"", b"x")

    def other(request):
        assert request.readable_parts == ()
        assert request.read() == b""
        return bytes(request.readable)

    assert run(other, b"", 4) == (b"", b"")


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_read_and_write_walk_over_buffers(run, pieces):
    def act(request):
        pieces = [request.read(0), request.read(3), request.read(4)]
        assert request.unread == 3
        pieces += [request.read(100), request.read(1), request.read()]
        assert request.write(b"ab") == 2
        assert request.write(memoryview(b"cdefg")) == 5
        assert request.write(bytearray(b"hij")) == 3
        assert request.write(b"") == 0
        assert request.written == 10
        return pieces

    answer, pieces = run(act, b"0123456789", 10, pieces)
    assert pieces == [b"", b"012", b"3456", b"789", b"", b""]
    assert answer == b"abcdefghij"


def test_writing_too_much_writes_nothing(run):
    def act(request):
        request.write(b"1234")
        with pytest.raises(RequestUseError, match=r"5 bytes do not fit: .* room for 4 more"):
            request.write(b"56789")

    assert run(act, b"", 8, pieces=2)[0] == b"1234"


def test_write_takes_a_view_of_the_request_itself(run):
    assert run(lambda r: r.write(r.readable) and None, b"loop", 4)[0] == b"loop"


@pytest.mark.parametrize("bad", [None, 5, "text"])
def test_write_wants_bytes(run, bad):
    assert isinstance(run(lambda r: r.write(bad), b"", 4)[1], TypeError)


@pytest.mark.parametrize("written", [-1, 9, 1 << 40])
def test_complete_checks_its_number(run, written):
    answer, error = run(lambda request: request.complete(written), b"", 8)
    assert answer == b""
    assert isinstance(error, RequestUseError)


def test_completing_twice(run):
    def act(request):
        request.complete(1)
        request.complete(1)

    answer, error = run(act, b"", 8)
    assert answer == b"\0"
    assert isinstance(error, RequestUseError)


@pytest.mark.parametrize(
    "use",
    [
        lambda r: r.read(),
        lambda r: r.write(b"x"),
        lambda r: r.readable,
        lambda r: r.writable,
        lambda r: r.readable_parts,
        lambda r: r.writable_parts,
        lambda r: r.readable_length,
        lambda r: r.writable_length,
        lambda r: r.unread,
        lambda r: r.complete(),
    ],
)
def test_nothing_works_after_completion(run, use):
    kept = run(lambda request: request, b"abc", 4)[1]
    assert kept.completed
    assert repr(kept) == "<Request of requests, completed>"
    with pytest.raises(RequestUseError, match="belongs to the driver again"):
        use(kept)


def test_views_end_with_the_request(run):
    kept = run(lambda r: (r.readable, r.writable, *r.readable_parts, *r.writable_parts), b"abc", 4)[1]
    for view in kept:
        with pytest.raises(ValueError, match="released"):
            bytes(view)


def test_a_view_that_is_still_looked_through_keeps_the_memory(guest):
    device = Probe()
    machine = guest(device)
    ring = machine.ring().set_up()
    device.act = lambda request: request.readable[1:]
    ring.ask(b"abc", 4)
    machine.attachment.close()
    machine.memory = ring.queue = None
    gc.collect()
    assert bytes(device.result) == b"bc"


def test_requests_are_not_made_by_hand():
    with pytest.raises(TypeError):
        Request()
