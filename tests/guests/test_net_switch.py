"""Two Linux guests on a switch in one process. Boots two."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lan import Machine, lost, two_machines, until
from virtio.testing.bursts import CollectSink, put_frames

from virtio.network.switch import Port, PortSettings, Switch

pytestmark = pytest.mark.guest

Pair = tuple[Machine, Machine]
ONE, OTHER = "192.0.2.1", "192.0.2.2"
OFFLOADS = (
    "tx-checksumming",
    "scatter-gather",
    "tx-tcp-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp6-segmentation",
    "generic-segmentation-offload",
    "rx-gro-hw",
)


@pytest.fixture(scope="module")
def lan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    directory = tmp_path_factory.mktemp("lan")
    links = ["switch:lan?port=one"], ["switch:lan?port=other"]
    with two_machines(directory, *links, files=["iperf3", "ethtool"]) as pair:
        for machine, address in zip(pair, (ONE, OTHER), strict=True):
            machine.up("eth0", f"{address}/24")
        yield pair


@pytest.fixture
def switch(lan: Pair) -> Switch:
    port = lan[0].nics[0].link
    assert isinstance(port, Port)
    return port.switch


@pytest.fixture
def probe(switch: Switch) -> Iterator[Port]:
    """A port of the switch for the test itself."""
    port = switch.add(PortSettings("probe"))
    port.connect(CollectSink())
    yield port
    port.close()


def received(machine: Machine) -> dict[str, int]:
    return machine.nics[0].nic.stats()["receive"][0]


def sent(machine: Machine) -> dict[str, int]:
    return machine.nics[0].nic.stats()["transmit"][0]


def test_they_ping_each_other(lan: Pair, switch: Switch) -> None:
    one, other = lan
    one.ping(OTHER)
    other.ping(ONE, "-s 1400")
    stations = {station.address: station.port for station in switch.stations()}
    assert stations == {"52:54:00:00:01:00": 0, "52:54:00:00:02:00": 1}
    rings = [machine.nics[0].attachments[0].vrings[1] for machine in lan]
    assert all(ring.stats()["kicks"] for ring in rings), "by eventfd, not by messages"


def test_the_driver_has_the_offloads(lan: Pair) -> None:
    found = lan[0].offloads("eth0")
    assert {name: found[name] for name in OFFLOADS} == dict.fromkeys(OFFLOADS, "on")
    assert found["rx-checksumming"] == found["rx-vlan-filter"] == "on [fixed]"


def test_iperf3_by_tcp(lan: Pair) -> None:
    one, other = lan
    before = sent(one), received(other)
    other.sh("iperf3 -s -1 -D")
    end = one.iperf("-c", OTHER, "-n 64M")["end"]
    assert end["sum_sent"]["bytes"] >= 64 << 20
    for then, now in zip(before, (sent(one), received(other)), strict=True):
        assert now["segmented_bytes"] - then["segmented_bytes"] > 60 << 20, "left to segment"
        assert now["partial"] > then["partial"], "left to sum up"


def test_iperf3_by_udp(lan: Pair) -> None:
    one, other = lan
    before = sent(one)["frames"]
    other.sh("iperf3 -s -1 -D")
    total = one.iperf("-c", OTHER, "-u -b 20M -l 1400 -n 2M")["end"]["sum"]
    assert total["packets"] >= (2 << 20) // 1400
    assert sent(one)["frames"] - before >= total["packets"]
    # A guest that is not scheduled for long loses some: those that nobody dropped may not be among them.
    in_sockets = other.sh("grep ^Udp: /proc/net/snmp").splitlines()[1].split()[5]
    assert total["lost_packets"] <= int(in_sockets) + sum(lost(*one.nics, *other.nics).values())


def test_frames_of_9000_bytes(lan: Pair) -> None:
    one, other = lan
    for machine in lan:
        machine.sh("ip link set eth0 mtu 9000")
    before = received(other)
    one.ping(OTHER, "-s 8972")
    frames, size = (received(other)[what] - before[what] for what in ("frames", "bytes"))
    assert size >= 3 * 9014
    assert frames < 3 * 5, "in one piece each"
    for machine in lan:
        machine.sh("ip link set eth0 mtu 1500")


def test_a_cable_that_is_pulled(lan: Pair) -> None:
    one, other = lan
    cable = other.nics[0]
    cable.set_link(False)
    until(lambda: other.read("eth0", "carrier") == "0")
    down = received(other)["down"]
    assert not one.hears(OTHER, "eth0")
    assert received(other)["down"] > down
    cable.set_link(True)
    until(lambda: other.read("eth0", "carrier") == "1")
    one.ping(OTHER)


def test_only_promiscuous_it_gets_what_is_for_others(lan: Pair, probe: Port) -> None:
    _, other = lan
    foreign = bytes.fromhex("52540000ffff 525400000003 88b5") + bytes(50)
    then = received(other)
    put_frames(probe, [foreign] * 50)
    assert received(other)["filtered"] - then["filtered"] >= 50
    other.sh("ip link set eth0 promisc on")
    count, then = int(other.read("eth0", "statistics/rx_packets")), received(other)
    put_frames(probe, [foreign] * 50)
    assert received(other)["filtered"] == then["filtered"]
    until(lambda: int(other.read("eth0", "statistics/rx_packets")) >= count + 50)
    other.sh("ip link set eth0 promisc off")


def test_frames_of_a_vlan_come_while_it_has_an_interface(lan: Pair, probe: Port) -> None:
    _, other = lan
    tagged = bytes.fromhex("ffffffffffff 525400000003 8100 0007 88b5") + bytes(50)
    then = received(other)["filtered"]
    put_frames(probe, [tagged] * 50)
    assert received(other)["filtered"] - then >= 50
    other.add_vlan("eth0", 7, "198.51.100.1/24")
    put_frames(probe, [tagged] * 50)
    until(lambda: int(other.read("eth0.7", "statistics/rx_packets")) >= 50)
    other.sh("ip link del eth0.7")
    then = received(other)["filtered"]
    put_frames(probe, [tagged] * 50)
    assert received(other)["filtered"] - then >= 50
