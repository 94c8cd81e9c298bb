"""The end of a ``with`` block."""

from __future__ import annotations

import pytest

from virtio.closing import Closing


class Door(Closing):
    closed = 0

    def close(self) -> None:
        self.closed += 1


def test_a_block_gives_the_thing_itself_and_closes_it() -> None:
    with Door() as door:
        assert door.closed == 0
    assert door.closed == 1


def test_it_is_closed_after_an_error_which_goes_on() -> None:
    door = Door()
    with pytest.raises(KeyError), door:
        raise KeyError
    assert door.closed == 1


def test_what_has_no_end_says_so() -> None:
    with pytest.raises(NotImplementedError), Closing():
        pass
