import pytest

from virtio.errors import FeatureError
from virtio.spec import features, net


def test_a_set_and_its_bits_are_inverse_beyond_64_bits():
    assert features.bits(features.mask(0, 32, 70)) == [0, 32, 70]
    assert features.mask() == 0
    assert features.bits(0) == []


def test_the_unmet_dependency_is_named():
    with pytest.raises(FeatureError, match=r"^GUEST_TSO4 \(7\) needs GUEST_CSUM \(1\)$"):
        features.check(1, features.mask(net.F_GUEST_TSO4))
    features.check(1, features.mask(net.F_GUEST_TSO4, net.F_GUEST_CSUM))


def test_either_of_two_is_enough():
    with pytest.raises(FeatureError, match=r"HOST_ECN \(13\) needs HOST_TSO4 \(11\) or HOST_TSO6 \(12\)"):
        features.check(1, features.mask(net.F_HOST_ECN, net.F_CSUM))
    features.check(1, features.mask(net.F_HOST_ECN, net.F_HOST_TSO6, net.F_CSUM))


def test_dependencies_reach_beyond_bit_63():
    with pytest.raises(FeatureError, match=r"RSS_CONTEXT \(64\) needs RSS \(60\)"):
        features.check(1, features.mask(net.F_RSS_CONTEXT, net.F_CTRL_VQ))


def test_what_was_never_offered_cannot_be_accepted():
    offered = features.mask(features.VERSION_1)
    with pytest.raises(FeatureError, match=r"RING_PACKED \(34\) was accepted but never offered"):
        features.check(2, features.mask(features.VERSION_1, features.RING_PACKED), offered=offered)
    features.check(2, offered, offered=offered)


def test_unknown_devices_and_bits_need_nothing():
    features.check(999, features.mask(3, 99))
    features.check(1, features.mask(127))


def test_names():
    assert features.name(1, 0) == "CSUM"
    assert features.name(2, 34) == "RING_PACKED"
    assert features.name(1, 41) == "ADMIN_VQ"
    assert features.name(1, 99) == "bit 99"
    assert features.name(999, 0) == "bit 0"
