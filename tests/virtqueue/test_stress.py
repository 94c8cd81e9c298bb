"""Two real threads on one ring, asleep and awake: nothing is lost, doubled, reordered or overlooked."""

import pytest

from virtio.testing.rig import RING_PACKED, Rig
from virtio.testing.stress import run

INDIRECT_DESC, EVENT_IDX, IN_ORDER = 1 << 28, 1 << 29, 1 << 35
KINDS = {"split": 0, "packed": RING_PACKED}
MANY = 10**8


def rig(kind, size, features):
    # Tables of two entries: chains of two buffers are indirect, longer ones direct.
    return Rig(size, KINDS[kind] | features, table_entries=2, buffer_bytes=128 * size)


@pytest.mark.stress
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_million_descriptors(kind):
    report = run(rig(kind, 4096, EVENT_IDX | INDIRECT_DESC), MANY)
    assert report.trouble == ""
    assert report.descriptors >= MANY
    assert report.chains >= MANY // 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_ring_has_both_sides_sleep_and_wake(kind):
    report = run(rig(kind, 16, EVENT_IDX | INDIRECT_DESC), 10**6)
    assert report.trouble == ""
    # Often, or nothing has been shown; how often, the machine decides.
    assert min(report.driver_sleeps, report.device_sleeps, report.kicks, report.calls) > 100


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "features", [0, EVENT_IDX, EVENT_IDX | IN_ORDER, EVENT_IDX | IN_ORDER | INDIRECT_DESC]
)
@pytest.mark.parametrize("size", [4, 256])
def test_every_kind(kind, features, size):
    goal = 500 * size
    report = run(rig(kind, size, features), goal)
    assert report.trouble == ""
    assert report.descriptors >= goal


def test_a_packed_ring_of_odd_size():
    assert run(rig("packed", 101, EVENT_IDX), 200_000).trouble == ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_sequence_number_is_seen(kind):
    report = run(rig(kind, 64, EVENT_IDX), 10**6, flaw="corrupt")
    assert (report.trouble, report.detail) == ("lost", 1000)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missed_wake_up_is_seen(kind):
    """A device that does not look once more before it sleeps sleeps for ever."""
    report = run(rig(kind, 64, EVENT_IDX), 10**7, flaw="blind sleep", watchdog=0.5)
    assert report.trouble == "hang"
    assert report.descriptors < 10**7
