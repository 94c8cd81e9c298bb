from __future__ import annotations

from pathlib import Path

import pytest

from virtio.devices.entropy import Allowance, Entropy
from virtio.errors import HostError, UsageError


def test_random_bytes(guest) -> None:
    g = guest(Entropy())
    answers = [g.ask([], parts) for parts in ([64], [1], [3, 40, 4096])]
    assert [answer.used for answer in answers] == [64, 1, 4139]
    assert len({answer.parts[0][:64] for answer in answers}) == 3
    assert answers[2].parts[2] != b"\xee" * 4096


def test_what_cannot_be_filled_at_once_is_filled_in_part(guest) -> None:
    answer = guest(Entropy()).ask([], [1 << 20])
    assert answer.used == 1 << 16


def test_from_a_file(guest, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(100)))
    device = Entropy(source)
    g = guest(device)
    assert g.ask([], [60]).parts == [bytes(range(60))]
    second = g.ask([], [60])
    assert second.used == 40
    assert second.parts[0][:40] == bytes(range(60, 100))
    assert g.ask([], [60]).used == 0  # at its end
    g.close()
    device.close()


def test_buffers_to_read_are_ignored(guest) -> None:
    for device in (Entropy(), Entropy(max_bytes=20)):
        g = guest(device)
        assert g.ask([b"no use"], [8]).used == 8
        assert g.ask([b"no use"], []).used == 0


def test_rationed(guest) -> None:
    g = guest(Entropy(max_bytes=100, period=150))
    used = [g.ask([], [64]).used for _ in range(4)]
    assert used[:2] == [64, 36]
    assert used[2] == 64


def test_the_wait_for_the_next_period_ends_with_the_driver(guest) -> None:
    device = Entropy(max_bytes=1, period=3_600_000)
    g = guest(device)
    assert g.ask([], [8]).used == 1
    g.submit([], [8])
    g.kick()
    g.attachment.reset()
    g.close()
    device.close()


def test_the_allowance() -> None:
    now = 0.0
    allowance = Allowance(10, 1000, clock=lambda: now)
    assert [allowance.take(6), allowance.take(6), allowance.take(6)] == [6, 4, 0]
    assert allowance.wait() == 1.0
    now = 1.5
    assert [allowance.take(20), allowance.take(1)] == [10, 0]
    assert allowance.wait() == 1.0


def test_what_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="No such file"):
        Entropy(tmp_path / "none")
    for limits in ({"max_bytes": 0}, {"max_bytes": 1, "period": 0}):
        with pytest.raises(UsageError):
            Entropy(**limits)
