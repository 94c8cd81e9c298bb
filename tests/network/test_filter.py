"""What every filter delegates to the link it is around."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from virtio.errors import NetworkUrlError, UsageError
from virtio.network import (
    AntiSpoofLink,
    CaptureLink,
    FilterLink,
    ImpairLink,
    Link,
    NullLink,
    Sink,
    open_link,
    stack,
)
from virtio.network.link import Link as LinkBase
from virtio.testing.wire import Wire, put_frames

FRAME = bytes(range(64))


class Recorder(LinkBase):
    """A link that answers what no base does, and notes what it is told."""

    name = "recorder:"  # type: ignore[assignment]
    accepts = 0x1803  # type: ignore[assignment]
    up = False  # type: ignore[assignment]
    mtu = 9000  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.told: list[object] = []

    def set_guest_offloads(self, features: int) -> None:
        self.told.append(("offloads", features))

    def on_carrier(self, tell: Callable[[bool], None] | None) -> None:
        self.told.append(("carrier", tell))

    def receive_fd(self, queue: int) -> int:
        return 100 + queue

    def stats(self) -> dict[str, int]:
        return {"frames": 7}

    def close(self) -> None:
        self.told.append("close")


def make_filters(inner: Link) -> list[FilterLink]:
    return [FilterLink(inner), ImpairLink(inner), AntiSpoofLink(inner)]


@pytest.mark.parametrize("number", range(3))
def test_properties_are_the_inner_links(number: int) -> None:
    inner = Recorder()
    link = make_filters(inner)[number]
    assert (link.name, link.accepts, link.up, link.mtu) == ("recorder:", 0x1803, False, 9000)
    assert link.receive_fd(3) == 103
    assert link.stats()["frames"] == 7
    link.set_guest_offloads(0x82)
    link.on_carrier(None)
    link.close()
    assert inner.told == [("offloads", 0x82), ("carrier", None), "close"]
    assert link.inner is inner


@pytest.mark.parametrize("number", range(3))
def test_frames_pass_both_ways(number: int) -> None:
    inner = open_link("loop:")
    link = make_filters(inner)[number]
    guest = Wire(link, 4)
    assert inner.queues == link.queues == 4
    assert put_frames(link, [FRAME, FRAME[:20]], header={"flags": 1, "csum_start": 14, "csum_offset": 6}) == 2
    assert [seen.data for seen in guest.frames] == [FRAME, FRAME[:20]]
    assert guest.frames[0].csum_start == 14
    assert guest.deliver() < 0
    link.disconnect()
    put_frames(link, [FRAME])
    assert len(guest.frames) == 2
    link.close()


def test_a_guest_without_room_is_heard_through_a_filter() -> None:
    link = FilterLink(open_link("loop:"))
    link.connect(Wire(room=1))
    put_frames(link, [FRAME] * 3)
    assert link.stats()["dropped"] == 2


@pytest.mark.parametrize("number", range(3))
def test_one_nic_at_a_time(number: int) -> None:
    link = make_filters(NullLink())[number]
    link.connect(Sink())
    with pytest.raises(UsageError, match="null: is connected"):
        link.connect(Sink())
    link.disconnect()
    link.connect(Sink())


def test_a_filter_stays_free_when_the_inner_link_is_taken() -> None:
    inner = NullLink()
    inner.connect(Sink())
    link = FilterLink(inner)
    with pytest.raises(UsageError, match="null: is connected"):
        link.connect(Sink())
    inner.disconnect()
    link.connect(Sink())


def test_the_stack_is_outermost_first(tmp_path) -> None:
    options = f"delay=1ms&only-mac=52:54:00:00:00:01&pcap={tmp_path}/a&pcap-wire={tmp_path}/b"
    link = open_link(f"null:?{options}")
    kinds = [type(layer) for layer in stack(link)]
    assert kinds == [CaptureLink, AntiSpoofLink, ImpairLink, CaptureLink, NullLink]
    link.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("delay=10", "delay=10: delay is a time"),
        ("loss=2", "loss=2: loss is a percentage"),
        ("loss=1%,x", "loss=1%,x: loss is a percentage"),
        ("rate=fast", "rate=fast: rate is a rate"),
        ("rate=1mbit/2mbit/3mbit", "rate=1mbit/2mbit/3mbit: rate is a rate"),
        ("distribution=flat", "distribution is uniform or normal or pareto or paretonormal"),
        ("gemodel=1%,2%,3%,4%,5%", "gemodel is up to four percentages"),
        ("gap=5", "gap needs reorder"),
        ("gap=0&reorder=1%&delay=1ms", "gap is a whole number from 1"),
        ("reorder=1%", "reorder needs a delay"),
        ("exceed=wait", "exceed is delay or drop"),
        ("limit=0", "limit is a whole number from 1"),
        ("overhead=70000", "overhead is a whole number up to 65535"),
        ("impair=up", "impair is in"),
        ("seed=-1", "seed is a whole number"),
        ("segments=maybe", "segments is on or off"),
        ("snaplen=64", "snaplen needs pcap"),
        ("pcap=/dev/null&snaplen=x", "snaplen is a size"),
        ("pcap=", "pcap is the file"),
        ("only-mac=", "only-mac lists"),
        ("only-mac=52:54:00", "it takes an address such as"),
        ("only-mac=01:00:5e:00:00:01", "a group's address"),
        ("only-ip=300.0.0.1", "it takes an address or network"),
    ],
)
def test_values_that_make_no_sense_name_their_option(options: str, message: str) -> None:
    with pytest.raises(NetworkUrlError) as caught:
        open_link(f"null:?{options}")
    assert message in str(caught.value)
