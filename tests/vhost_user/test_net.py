"""What vhost-user has for NICs alone: SEND_RARP, NET_SET_MTU, and when their configuration is offered."""

from __future__ import annotations

import pytest

from virtio.devices.entropy import Entropy
from virtio.devices.net import Net
from virtio.errors import RefusedError, UsageError
from virtio.spec import net as spec
from virtio.testing import loopback, loopback_socket
from virtio.testing.wire import Wire
from virtio.vhost_user.frontend import DEFAULT_PROTOCOL_FEATURES, Frontend
from virtio.vhost_user.messages import FrontendRequest, ProtocolFeature
from virtio.vhost_user.payloads import Number

MAC = bytes.fromhex("525400123456")
NETWORK = ProtocolFeature.RARP.mask | ProtocolFeature.MTU.mask
ALL = DEFAULT_PROTOCOL_FEATURES | NETWORK


class Narrow(Wire):
    """A link for frames of 1500 bytes at most."""

    @property
    def mtu(self) -> int:
        return 1500


def test_a_guest_that_was_migrated_is_announced() -> None:
    wire = Wire()
    with Net(wire) as nic, loopback(nic, protocol_features=ALL) as front:
        front._call(FrontendRequest.SEND_RARP, Number(int.from_bytes(MAC, "little") | 0xFFFF << 48))
        (seen,) = wire.wait(1)
        assert seen.data[6:14] == MAC + b"\x80\x35"


def test_the_mtu_that_the_driver_was_told() -> None:
    with Net(Narrow()) as nic, loopback(nic, protocol_features=ALL) as front:
        front._call(FrontendRequest.NET_SET_MTU, Number(1400))
        assert front.get_config(spec.Config.mtu.offset or 0, 2) == (1400).to_bytes(2, "little")
        for mtu in (1501, 0, 1 << 40):
            with pytest.raises(RefusedError):
                front._call(FrontendRequest.NET_SET_MTU, Number(mtu))
        assert nic.config.mtu == 1400


def test_other_devices_have_neither() -> None:
    with loopback(Entropy(), protocol_features=ALL) as front:
        assert not front.get_protocol_features() & NETWORK
        with pytest.raises(UsageError):
            front._call(FrontendRequest.SEND_RARP, Number(0))


def test_who_does_not_say_that_it_is_the_owner_is_not_offered_the_configuration() -> None:
    with Net("null:") as nic, loopback_socket(nic) as sock, Frontend(sock) as front:
        front.get_features()
        before = front.get_protocol_features()
        front.set_owner()
        assert front.get_protocol_features() == before  # QEMU asks once more for each pair
    assert before & NETWORK == NETWORK
    assert not before & (ProtocolFeature.CONFIG.mask | ProtocolFeature.CONFIGURE_MEM_SLOTS.mask)


def test_an_owner_is_offered_the_configuration() -> None:
    with Net("null:") as nic, loopback(nic) as front:
        assert front.get_protocol_features() & ProtocolFeature.CONFIG.mask


def test_queues_of_all_pairs_and_the_control_queue() -> None:
    with Net("null:", num_queues=4) as nic, loopback(nic) as front:
        assert front.get_queue_num() == 9


@pytest.mark.parametrize("pairs", [1, 4])
def test_who_asks_before_it_is_the_owner_counts_in_pairs(pairs: int) -> None:
    with Net("null:", num_queues=pairs) as nic, loopback_socket(nic) as sock, Frontend(sock) as front:
        front.get_features()
        front.set_protocol_features(front.get_protocol_features())
        assert front.get_queue_num() == pairs  # QEMU: has no more pairs than this
        front.set_owner()
        assert front.get_queue_num() == 2 * pairs + 1


def test_other_devices_have_no_pairs() -> None:
    with loopback_socket(Entropy()) as sock, Frontend(sock) as front:
        front.get_features()
        front.set_protocol_features(front.get_protocol_features())
        assert front.get_queue_num() == 1
