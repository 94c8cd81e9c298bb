"""The switch in one process: what the model does not say, and many threads at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from virtio.errors import NetworkError, NetworkUrlError, UsageError
from virtio.network import LoopLink, Sink, open_link
from virtio.network.switch import Fdb, Port, PortSettings, Switch, Uplink, add_uplink, named_switches
from virtio.network.switch.fabric import EVERYTHING
from virtio.spec import net
from virtio.testing.wire import Wire, put_frames

from .ethernet import BROADCAST, frame, station


def plug(switch: Switch, limit: int | None = None, **settings: object) -> tuple[Port, Wire]:
    port, sink = switch.add(PortSettings(**settings)), Wire(room=limit)  # type: ignore[arg-type]
    port.connect(sink)
    return port, sink


def data(sink: Wire) -> list[bytes]:
    return [seen.data for seen in sink.frames]


def test_full_receivers_drop_and_nobody_else_does() -> None:
    switch = Switch()
    (a, _), (b, small), (c, large) = plug(switch), plug(switch, limit=3), plug(switch)
    assert put_frames(a, [frame(BROADCAST, station(1))] * 10) == 10
    assert (len(small.frames), len(large.frames)) == (3, 10)
    assert b.stats()["dropped_full"] == 7
    assert c.stats()["dropped_full"] == 0
    assert a.stats()["flooded"] == 10


def test_counters_say_why() -> None:
    switch = Switch()
    a, _ = plug(switch, vlan=10, isolated=True)
    b, _ = plug(switch, vlan=10, isolated=True)
    put_frames(b, [frame(BROADCAST, station(2))])
    put_frames(a, [frame(station(2), station(1)), frame(station(1), station(1)), b"short"])
    put_frames(a, [frame(station(2), station(1), 20), frame(0x0180C2000002, station(1)), frame(1, BROADCAST)])
    stats = a.stats()
    assert stats["in_frames"] == 6
    assert stats["in_bytes"] == 4 * 21 + 5 + 25
    assert {name: value for name, value in stats.items() if name.startswith("dropped") and value} == {
        "dropped_isolated": 1, "dropped_local": 1, "dropped_invalid": 2, "dropped_vlan": 1,
        "dropped_reserved": 1,
    }  # fmt: skip
    assert stats["learned"] == 1


def test_a_station_moves() -> None:
    switch = Switch()
    (a, at_a), (b, at_b), (c, _) = plug(switch), plug(switch), plug(switch)
    put_frames(a, [frame(BROADCAST, station(1))])
    put_frames(b, [frame(BROADCAST, station(1))])
    assert b.stats()["moved"] == 1
    at_a.take(), at_b.take()
    put_frames(c, [frame(station(1), station(3))])
    assert (len(at_a.frames), len(at_b.frames)) == (0, 1)


def test_a_station_is_known_to_the_next_frame_of_its_burst() -> None:
    switch = Switch()
    (a, _), (_, at_b) = plug(switch), plug(switch)
    put_frames(a, [frame(station(1), station(2)), frame(station(1), station(1))])
    assert data(at_b) == [frame(station(1), station(2))]
    assert a.stats()["dropped_local"] == 1


def test_a_port_that_left_is_forgotten() -> None:
    switch = Switch()
    (a, _), (b, _), (_, at_c) = plug(switch), plug(switch), plug(switch)
    put_frames(b, [frame(BROADCAST, station(2))])
    assert len(switch.stations()) == 1
    b.close()
    assert switch.stations() == []
    assert not b.up
    assert put_frames(b, [frame(BROADCAST, station(2))]) == 1
    at_c.take()
    put_frames(a, [frame(station(2), station(1))])
    assert len(at_c.frames) == 1
    with pytest.raises(UsageError, match="was closed"):
        b.connect(Sink())
    assert switch.add().number == 1


def test_nobody_connected() -> None:
    switch = Switch()
    (a, _), (b, at_b) = plug(switch), plug(switch)
    put_frames(b, [frame(BROADCAST, station(2))])
    b.disconnect()
    put_frames(a, [frame(station(2), station(1))] * 2)
    assert b.stats()["dropped_down"] == 2
    assert at_b.frames == []
    b.connect(at_b)
    put_frames(a, [frame(station(2), station(1))])
    assert len(at_b.frames) == 1


def test_storm_control() -> None:
    switch = Switch()
    (a, _), (_, at_b) = plug(switch, storm=5), plug(switch)
    switch.set_clock(100)
    put_frames(a, [frame(BROADCAST, station(1))] * 8)
    switch.set_clock(101)
    put_frames(a, [frame(BROADCAST, station(1))] * 2)
    assert len(at_b.frames) == 7
    assert a.stats()["dropped_storm"] == 3


def test_reserved_addresses_if_wanted() -> None:
    switch = Switch(forward_reserved=True)
    (a, _), (_, at_b) = plug(switch), plug(switch)
    put_frames(a, [frame(0x0180C200000E, station(1))])
    assert len(at_b.frames) == 1


def test_more_segments_than_a_sub_burst_can_hold() -> None:
    """Frames in very many pieces go out in several parts, in order; one with too many not at all."""
    switch = Switch()
    (a, _), (_, at_b) = plug(switch, vlan=10), plug(switch, trunk=frozenset({10}))
    frames = [frame(BROADCAST, station(1), payload=bytes([n]) * 900) for n in range(8)]
    put_frames(a, frames, cut=range(20, 800))
    assert data(at_b) == [frame(BROADCAST, station(1), 10, payload=bytes([n]) * 900) for n in range(8)]
    at_b.take()
    put_frames(a, [frame(BROADCAST, station(1), payload=bytes(1200))], cut=range(20, 1100))
    assert at_b.frames == []
    assert a.stats()["dropped_invalid"] == 1


def test_a_frame_too_long_for_a_tag() -> None:
    switch = Switch()
    (a, _), (_, at_b) = plug(switch, vlan=10), plug(switch, trunk=frozenset({10}))
    put_frames(a, [frame(BROADCAST, station(1), payload=bytes(65550 - 14))])
    put_frames(a, [frame(BROADCAST, station(1), payload=bytes(65546 - 14))])
    assert [len(raw) for raw in data(at_b)] == [65550]


def test_a_table_that_is_full_keeps_what_it_has() -> None:
    table = Fdb(size=8, ageing=10)
    assert table.capacity == 8
    kept = [n for n in range(100) if table.see(f"52:54:00:00:00:{n:02x}", 1, 7, now=100) == 1]
    assert 4 <= len(kept) <= 8
    assert [table.where(f"52:54:00:00:00:{n:02x}", 1, now=100) for n in kept] == [7] * len(kept)
    assert table.see("52:54:00:00:01:00", 1, 3, now=111) == 1  # those are too old now
    table.flush(3)
    assert table.stations(now=100) == table.stations(now=100)
    assert table.where("52:54:00:00:01:00", 1, now=111) is None


def test_another_threads_clock_may_be_ahead() -> None:
    table = Fdb(size=8, ageing=10)
    table.see("52:54:00:00:00:01", 1, 7, now=101)
    assert table.where("52:54:00:00:00:01", 1, now=100) == 7


@pytest.mark.parametrize(
    "options",
    [
        {"vlan": "10", "trunk": "20"}, {"native": "3"}, {"vlan": "0"}, {"vlan": "4095"}, {"trunk": "5-2"},
        {"trunk": "x"}, {"isolated": "perhaps"}, {"storm": "-1"}, {"port": "a" * 65}, {"port": "a\nb"},
        {"vlan": "9" * 5000},
    ],
)  # fmt: skip
def test_settings_that_cannot_be(options: dict[str, str]) -> None:
    with pytest.raises(NetworkUrlError):
        PortSettings.parse(options)


def test_settings_in_words_and_back() -> None:
    settings = PortSettings("web", trunk=frozenset({2, 10}), native=3, isolated=True, storm=7)
    assert PortSettings.parse(settings.options()) == settings
    assert PortSettings.parse({"trunk": "10-12,2", "mirror": "a,b"}).trunk == frozenset({2, 10, 11, 12})
    assert PortSettings.parse({"trunk": "all"}).options() == {"trunk": "all"}


def test_by_url() -> None:
    first, second = open_link("switch:lan?vlan=10&port=web&ageing=60"), open_link("switch:lan?vlan=10")
    other = open_link("switch:wan?vlan=10")
    at_second, at_other = Wire(), Wire()
    second.connect(at_second)
    other.connect(at_other)
    put_frames(first, [frame(BROADCAST, station(1))])
    assert (len(at_second.frames), len(at_other.frames)) == (1, 0)
    assert [switch.name for switch in named_switches()] == ["lan", "wan"]
    assert first.name == "switch:lan?port=web"
    assert first.accepts == EVERYTHING
    assert first.accepts >> net.F_HOST_USO & 1
    with pytest.raises(NetworkUrlError, match="has a port web already"):
        open_link("switch:lan?port=web")
    with pytest.raises(NetworkUrlError, match="another ageing"):
        open_link("switch:lan?ageing=61")
    for link in (first, second, other):
        link.close()
        link.close()
    assert named_switches() == []


@pytest.mark.parametrize(
    "url", ["switch:", "switch:x?colour=1", "switch:x?vlan=9999", "switch:x?size=99999999"]
)
def test_urls_that_cannot_be(url: str) -> None:
    with pytest.raises(NetworkUrlError):
        open_link(url)
    assert named_switches() == []


def test_an_uplink_by_url() -> None:
    links = [open_link("switch:lan?uplink=loop:") for _ in range(2)]
    (switch,) = named_switches()
    assert [port.port_name for port in switch.ports] == ["port0", "uplink0", "port2"]
    sink = Wire()
    links[1].connect(sink)
    put_frames(links[0], [frame(BROADCAST, station(1))])
    # Once from the sender, and once more as the loop gives it back.
    assert len(sink.frames) == 2
    with pytest.raises(NetworkUrlError):
        open_link("switch:lan?uplink=nowhere:")
    assert len(switch.ports) == 3
    for link in links:
        link.close()
    assert named_switches() == []


UDP = bytes.fromhex(
    "0800 4500 0020 0000 0000 4011 0000 0a000001 0a000002 0400 0035 000c 0000 61626364".replace(" ", "")
)


class Simple(LoopLink):
    @property
    def accepts(self) -> int:
        return 0


def test_an_uplink_gets_finished_frames() -> None:
    """A link that takes no offloads gets the checksum computed, the other ports the frame as it was."""
    switch = Switch()
    (a, _), (_, at_b) = plug(switch), plug(switch)
    world = switch.add()
    link = Simple()
    uplink = Uplink(link, world)
    raw = station(2).to_bytes(6, "big") + station(1).to_bytes(6, "big") + UDP
    header = {"flags": 1, "csum_start": 34, "csum_offset": 6}
    put_frames(a, [raw, raw], header=header)
    came, back = at_b.frames[:2], at_b.frames[2:]
    assert [seen.flags for seen in came] == [1, 1]
    assert [seen.flags for seen in back] == [0, 0]
    assert {seen.data[40:42] for seen in came} == {b"\0\0"}
    assert all(seen.data[40:42] != b"\0\0" for seen in back)
    put_frames(a, [raw], header={"flags": 1, "csum_start": 60, "csum_offset": 6})
    assert uplink.stats()["unfinished"] == 1
    uplink.close()
    uplink.close()
    assert world not in switch.ports


def test_an_uplink_that_cannot_be_opened_leaves_no_port() -> None:
    switch = Switch()
    with pytest.raises(NetworkUrlError):
        add_uplink(switch, "nowhere:", PortSettings())
    assert switch.ports == []


def test_switches_in_a_ring() -> None:
    """A loop of switches ends, and is counted."""
    first, second = Switch("first"), Switch("second")
    a, _ = plug(first)
    for _ in range(2):
        one, other = first.add(), second.add()
        one.connect(other)
        other.connect(one)
    put_frames(a, [frame(BROADCAST, station(1))])
    assert sum(port.stats()["dropped_loop"] for port in [*first.ports, *second.ports]) > 0


def test_ports_are_many_but_not_too_many() -> None:
    switch = Switch()
    for _ in range(1024):
        switch.add()
    switch.ports[3].close()
    assert switch.add().number == 3
    with pytest.raises(NetworkError, match="1024 ports"):
        switch.add()
    with pytest.raises(UsageError):
        Switch(size=0)


def sequence(sender: int, count: int) -> list[bytes]:
    return [
        frame(
            BROADCAST if n % 7 == 0 else station(100 + n % 2), station(sender), payload=n.to_bytes(4, "big")
        )
        for n in range(count)
    ]


def numbers(frames: Sequence[bytes], sender: int) -> list[int]:
    by = station(sender).to_bytes(6, "big")
    return [int.from_bytes(raw[14:18], "big") for raw in frames if raw[6:12] == by]


def test_many_senders_while_ports_come_and_go() -> None:
    """Nothing is lost on a port that stays and has room, its flows keep their order, no VLAN is crossed."""
    switch = Switch()
    receivers = [plug(switch, vlan=10) for _ in range(2)]
    stranger_port, stranger = plug(switch, vlan=20)
    put_frames(stranger_port, [frame(BROADCAST, station(99))])
    for number, (port, _) in enumerate(receivers):
        put_frames(port, [frame(BROADCAST, station(100 + number))])
    for _, sink in receivers:
        sink.take()
    rounds, each = 20, 140
    senders = [plug(switch, vlan=10)[0] for _ in range(4)]
    start, done = threading.Barrier(5), threading.Event()

    def send(number: int) -> None:
        start.wait()
        for _ in range(rounds):
            put_frames(senders[number], sequence(number, each))

    def come_and_go() -> None:
        start.wait()
        while not done.is_set():
            port, _ = plug(switch, vlan=10)
            visitor, _ = plug(switch, vlan=20)
            put_frames(visitor, [frame(BROADCAST, station(50))])
            port.disconnect()
            port.close()
            visitor.close()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    meddler = threading.Thread(target=come_and_go)
    for thread in [*threads, meddler]:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    meddler.join()
    for which, (_, sink) in enumerate(receivers):
        got = data(sink)
        for sender in range(4):
            wanted = [n for n in range(each) if n % 7 == 0 or n % 2 == which]
            assert numbers(got, sender) == wanted * rounds
    assert all(raw[6:12] == station(50).to_bytes(6, "big") for raw in data(stranger))


class Meddler:
    """As the room of a wire, it is asked in the middle of `put`; it changes the switch then."""

    def __init__(self, switch: Switch) -> None:
        self.switch = switch
        self.errors: list[str] = []

    def __sub__(self, count: int) -> int:
        try:
            self.switch.add()
        except UsageError as error:
            self.errors.append(str(error))
        return 0


def test_ports_do_not_change_in_the_middle_of_a_frame() -> None:
    """It would wait for itself."""
    switch = Switch()
    (a, _), meddler = plug(switch), Meddler(switch)
    plug(switch)[1].room = meddler  # type: ignore[assignment]
    put_frames(a, [frame(BROADCAST, station(1))])
    assert len(meddler.errors) == 1
    assert "cannot change while it hands over a frame" in meddler.errors[0]
    assert len(switch.ports) == 2
    assert switch.add().number == 2
