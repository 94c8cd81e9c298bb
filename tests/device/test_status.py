"""The status register and what it does to a device."""

import itertools

import pytest

from virtio.device import Attachment, Device, Queue, status
from virtio.errors import FeatureError, UsageError
from virtio.spec import features as bits
from virtio.spec.status import ACKNOWLEDGE, DEVICE_NEEDS_RESET, DRIVER, DRIVER_OK, FAILED, FEATURES_OK

VERSION_1 = bits.mask(bits.VERSION_1)
A_D = ACKNOWLEDGE | DRIVER
LIVE = A_D | FEATURES_OK | DRIVER_OK


class Recorder(Device):
    device_id = 2
    queues = (Queue("requests"),)
    features = bits.mask(9, 11)

    def __init__(self):
        self.events = []

    def requests(self, request):
        pass

    def check_features(self, features):
        if features >> 11 & 1:
            raise FeatureError("not with 11")

    def on_ready(self, features):
        self.events.append(("ready", features))

    def on_reset(self):
        self.events.append("reset")


def test_no_write_clears_a_bit_or_sets_the_device_s():
    for old, written in itertools.product(range(256), range(1, 256)):
        new = status.after(old, written, features_acceptable=True)
        assert new & old == old
        assert new & DEVICE_NEEDS_RESET == old & DEVICE_NEEDS_RESET
        assert new & ~(old | written) == 0


def test_features_ok_needs_acceptable_features():
    assert status.after(A_D, A_D | FEATURES_OK, features_acceptable=False) == A_D
    assert status.after(A_D, A_D | FEATURES_OK, features_acceptable=True) == A_D | FEATURES_OK


@pytest.mark.parametrize(
    ("old", "written", "found"),
    [
        (0, ACKNOWLEDGE, []),
        (ACKNOWLEDGE, A_D, []),
        (A_D, A_D | FEATURES_OK, []),
        (A_D | FEATURES_OK, LIVE, []),
        (LIVE, 0, []),
        (LIVE, LIVE | FAILED, []),
        (0, FAILED, []),
        (0, DRIVER, ["DRIVER set before ACKNOWLEDGE"]),
        (0, FEATURES_OK, ["FEATURES_OK set before ACKNOWLEDGE DRIVER"]),
        (A_D, A_D | DRIVER_OK, ["DRIVER_OK set before FEATURES_OK"]),
        (LIVE, A_D | FEATURES_OK, ["DRIVER_OK cleared without a reset"]),
        (0, 0x20, ["unknown status bits 0x20"]),
    ],
)
def test_problems_of_modern_drivers(old, written, found):
    assert status.problems(old, written) == found


def test_legacy_drivers_skip_features_ok():
    assert status.problems(A_D, A_D | DRIVER_OK, legacy=True) == []


def test_initialisation_and_reset_many_times():
    device = Recorder()
    attachment = Attachment(device)
    for _ in range(3):
        for step in (ACKNOWLEDGE, A_D):
            attachment.status = step
        attachment.set_features(VERSION_1 | 1 << 9)
        attachment.status = A_D | FEATURES_OK
        assert attachment.status == A_D | FEATURES_OK
        attachment.status = LIVE
        assert attachment.status == LIVE
        attachment.status = 0
        assert (attachment.status, attachment.features) == (0, 0)
    assert device.events == [("ready", VERSION_1 | 1 << 9), "reset"] * 3
    attachment.close()


@pytest.mark.parametrize("mask", [1 << 5, VERSION_1 | 1 << 11, VERSION_1 | 1 << 200])
def test_unacceptable_features_leave_features_ok_clear(mask):
    attachment = Attachment(Recorder())
    attachment.status = A_D
    with pytest.raises(FeatureError):
        attachment.set_features(mask)
    attachment.status = A_D | FEATURES_OK
    assert attachment.status == A_D
    attachment.set_features(VERSION_1)
    attachment.status = A_D | FEATURES_OK
    assert attachment.status == A_D | FEATURES_OK
    attachment.close()


def test_a_fault_needs_a_reset(guest):
    machine = guest(Recorder())
    machine.attachment.status = LIVE
    ring = machine.ring().set_up()
    machine.attachment.fault(0, UsageError("something"))
    assert machine.attachment.status == LIVE | DEVICE_NEEDS_RESET
    assert machine.config_changes == 1
    machine.attachment.status = 0
    assert machine.attachment.status == 0
    assert not ring.vring.running


def test_offers_that_cannot_be_are_refused():
    class Wrong(Recorder):
        device_id = 1
        features = bits.mask(7)  # GUEST_TSO4 needs GUEST_CSUM

    with pytest.raises(FeatureError, match="GUEST_TSO4"):
        Attachment(Wrong())


def test_coroutines_are_not_offered_in_order():
    class Later(Device):
        device_id = 42
        queues = (Queue("requests"),)

        async def requests(self, request):
            pass

    assert not Later().offered_features >> bits.IN_ORDER & 1
    assert Recorder().offered_features >> bits.IN_ORDER & 1


def test_one_driver_at_a_time_unless_shareable():
    device = Recorder()
    first = Attachment(device)
    with pytest.raises(UsageError, match="already in use"):
        Attachment(device)
    with pytest.raises(UsageError, match="in use"):
        device.close()
    first.close()
    first.close()
    second = Attachment(device)
    assert device.attachments == (second,)
    second.close()
