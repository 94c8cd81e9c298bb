from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtio.errors import GuestError
from virtio.vm.agent import MarkedStream, Result

MARK = "abcab"


@given(
    output=st.binary(max_size=40) | st.text("abc", max_size=40).map(str.encode),
    status=st.integers(0, 255),
    cuts=st.lists(st.integers(0, 60)),
)
def test_output_and_status_come_apart_however_they_arrive(
    output: bytes, status: int, cuts: list[int]
) -> None:
    # The mark is the first occurrence of its word; in use it is 128 bits of chance.
    output = output.replace(MARK.encode(), b"")
    whole = output + MARK.encode() + b" %d\n" % status
    if whole.index(MARK.encode()) < len(output):
        return
    stream = MarkedStream(MARK)
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    pieces = [whole[start:end] for start, end in itertools.pairwise(edges)]
    assert b"".join([stream.feed(piece) for piece in pieces]) == output
    assert stream.status == status


def test_output_is_not_kept_back() -> None:
    stream = MarkedStream(MARK)
    assert stream.feed(b"hello ab") == b"hello "
    assert stream.feed(b"x") == b"abx"
    assert stream.status is None


def test_what_follows_the_status_is_not_taken_for_it() -> None:
    stream = MarkedStream(MARK)
    stream.feed(b"abcab 7\nstray")
    assert stream.status == 7


def test_a_result() -> None:
    assert Result("true", 0, b"\xff").check().stdout == "\N{REPLACEMENT CHARACTER}"
    with pytest.raises(GuestError, match="'false' gave status 1: sorry") as raised:
        Result("false", 1, b"out", b"sorry\n").check()
    assert raised.value.fix == ""
