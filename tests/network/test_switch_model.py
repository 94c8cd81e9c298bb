"""The switch does what a slow model of it does: any ports, VLANs, moves, ageing."""

from __future__ import annotations

from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from virtio.network.switch import Port, PortSettings, Switch
from virtio.testing.wire import HEADER_FIELDS, Wire, put_frames

from .ethernet import BROADCAST, frame, station
from .switch_model import Delivery, ModelSwitch

AGEING = 30
VLANS = st.sampled_from([1, 2, 10, 4094])
NAMES = [f"p{number}" for number in range(6)]

PLAIN = st.just({})
ACCESS = st.fixed_dictionaries({"vlan": VLANS})
TRUNK = st.fixed_dictionaries(
    {"trunk": st.frozensets(VLANS, min_size=1)}, optional={"native": st.one_of(st.none(), VLANS)}
)
MONITOR = st.fixed_dictionaries({"mirror": st.sampled_from([("all",), ("p0",), ("p1", "p2"), ("none",)])})
KIND = st.one_of(PLAIN, ACCESS, TRUNK, MONITOR)

STATIONS = [station(number) for number in range(5)]
RECEIVERS = [*STATIONS, BROADCAST, 0x0180C2000000, 0x0180C2000010, 0x01005E000001]
TCI = st.sampled_from([0, 1, 2, 10, 11, 4094, 4095, 0xE000, 0x700A, 0x2001])
FRAMES = st.builds(
    lambda to, by, tags, payload, cut: frame(to, by, *tags, payload=payload)[:cut],
    st.sampled_from(RECEIVERS),
    st.sampled_from([*STATIONS, BROADCAST, 0]),
    st.lists(TCI, max_size=2),
    st.binary(max_size=8),
    st.sampled_from([None, None, None, None, None, 13, 14, 16]),
)
HEADERS = st.fixed_dictionaries(
    {
        "flags": st.sampled_from([0, 1, 2]),
        "gso_type": st.sampled_from([0, 1]),
        "hdr_len": st.sampled_from([0, 16, 54, 65533]),
        "gso_size": st.just(1448),
        "csum_start": st.sampled_from([14, 17, 34, 65534]),
        "csum_offset": st.just(16),
    }
)


class SwitchMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.switch = Switch("tested", ageing=AGEING)
        self.model = ModelSwitch(AGEING)
        self.ports: dict[str, Port] = {}
        self.sinks: dict[str, Wire] = {}
        self.wait(0)

    @rule(seconds=st.sampled_from([0, 1, AGEING - 1, AGEING, AGEING + 1]))
    def wait(self, seconds: int) -> None:
        self.model.now += seconds
        self.switch.set_clock(self.model.now)

    @rule(name=st.sampled_from(NAMES), kind=KIND, isolated=st.booleans())
    def join_or_leave(self, name: str, kind: dict[str, object], isolated: bool) -> None:
        if name in self.ports:
            self.ports.pop(name).close()
            self.sinks.pop(name)
            self.model.remove(name)
            return
        settings = PortSettings(port=name, isolated=isolated, **kind)  # type: ignore[arg-type]
        self.ports[name] = self.switch.add(settings)
        self.sinks[name] = Wire()
        self.ports[name].connect(self.sinks[name])
        self.model.ports[name] = settings

    @precondition(lambda self: self.ports)
    @rule(data=st.data(), frames=st.lists(FRAMES, min_size=1, max_size=8), header=HEADERS)
    def send(self, data: st.DataObject, frames: list[bytes], header: dict[str, int]) -> None:
        name = data.draw(st.sampled_from(sorted(self.ports)))
        cut = data.draw(st.sampled_from([(), (3,), (12, 14), (0, 14, 16), (1, 17, 18)]))
        sink_before = {other: len(sink.frames) for other, sink in self.sinks.items()}
        assert put_frames(self.ports[name], frames, header=header, cut=cut) == len(frames)
        wanted: dict[str, list[Delivery]] = {other: [] for other in self.ports}
        for raw in frames:
            for other, delivery in self.model.put(
                name, raw, {field: header[field] for field in HEADER_FIELDS}
            ):
                wanted[other].append(delivery)
        for other, sink in self.sinks.items():
            got = [(seen.data, seen.header) for seen in sink.frames[sink_before[other] :]]
            if self.model.ports[other].mirror:  # copies of what came in and of what left, in no mutual order
                assert counted(got) == counted(wanted[other])
            else:
                assert got == wanted[other]

    @invariant()
    def same_table(self) -> None:
        names = {port.number: name for name, port in self.ports.items()}
        table = {(s.vlan, s.address, names[s.port], s.age) for s in self.switch.stations()}
        assert table == self.model.stations()

    @invariant()
    def every_frame_is_accounted_for(self) -> None:
        for name, port in self.ports.items():
            stats = port.stats()
            assert stats["out_frames"] == len(self.sinks[name].frames)
            assert stats["dropped_full"] == stats["dropped_down"] == 0


def counted(deliveries: list[Delivery]) -> Counter[tuple[bytes, str]]:
    return Counter((raw, repr(header)) for raw, header in deliveries)


TestSwitch = SwitchMachine.TestCase
