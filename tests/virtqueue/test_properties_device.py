"""The compiled device's end beside the model's, under one driver: they must do the same."""

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from virtio.testing.rig import RING_PACKED, Rig, shared_memory
from virtio.virtqueue.state import QueueState

INDIRECT_DESC, EVENT_IDX, IN_ORDER = 1 << 28, 1 << 29, 1 << 35
PATTERN = bytes(range(256))

features = st.sets(st.sampled_from([INDIRECT_DESC, EVENT_IDX, IN_ORDER])).map(sum)
rigs = st.one_of(
    st.builds(
        Rig,
        size=st.sampled_from([1, 2, 4, 8]),
        features=features,
        byte_order=st.sampled_from(["little", "big"]),
    ),
    st.builds(Rig, size=st.sampled_from([1, 2, 3, 5, 8]), features=features.map(RING_PACKED.__or__)),
)
buffer = st.tuples(st.integers(0, 200), st.integers(1, 56))
starts = st.tuples(st.sampled_from([0, 1, 7, 0xFFFE]), st.booleans())


def state_of(rig, start):
    """A place to begin: near an index's overflow, or anywhere on a packed ring."""
    index, wrap = start
    if rig.packed:
        return QueueState(index % rig.size, index % rig.size, wrap, wrap)
    return QueueState(index, index)


class DeviceBesideModel(RuleBasedStateMachine):
    """Two copies of memory, each with a model driver; a compiled device in one, a model in the other."""

    @initialize(rig=rigs, start=starts)
    def begin(self, rig, start):
        self.rig = rig
        self.shared = shared_memory(rig.total)
        self.view = self.shared.view(0, rig.total)
        self.copy = bytearray(rig.total)
        self.memories = [rig.model_memory(self.view), rig.model_memory(self.copy)]
        for memory in self.memories:
            memory.write(rig.buffers, PATTERN)
        self.make_queues(state_of(rig, start) if any(start) else None)

    def make_queues(self, state):
        for memory in self.memories:
            memory.write(0, bytes(self.rig.tables))
            if state:
                self.rig.leave_at(memory, state)
        self.drivers = [self.rig.model_driver(memory, state) for memory in self.memories]
        self.device = self.rig.device(self.shared, state)
        self.model = self.rig.model_device(self.memories[1], state)
        self.restored = state is not None
        self.taken = []
        self.unpublished = False
        self.token = 0
        self.waiting = set()

    # -- the driver

    @rule(parts=st.lists(buffer, min_size=1, max_size=5), readable=st.integers(0, 5), indirect=st.booleans())
    def add(self, parts, readable, indirect):
        parts = [(self.rig.buffers + at, length) for at, length in parts[: self.rig.size]]
        indirect = indirect and self.rig.features & INDIRECT_DESC and len(parts) <= self.rig.table_entries
        chain = parts[:readable], parts[readable:]
        added = [driver.add(*chain, self.token, indirect) for driver in self.drivers]
        assert added[0] == added[1]
        if added[0]:
            self.waiting.add(self.token)
            self.token += 1

    @rule()
    def publish_added(self):
        first, second = (driver.publish() for driver in self.drivers)
        assert first == second

    @rule()
    def reap(self):
        first, second = (driver.reap() for driver in self.drivers)
        assert first == second
        for token, _ in first:
            self.waiting.remove(token)

    @rule(on=st.booleans(), after=st.integers(0, 5))
    def driver_notifications(self, on, after):
        if on:
            first, second = (driver.enable_notifications(after) for driver in self.drivers)
            assert first == second
        else:
            for driver in self.drivers:
                driver.disable_notifications()

    # -- the device

    @rule(limit=st.integers(1, 4))
    def take(self, limit):
        for _ in range(limit):
            assert self.device.is_available() == self.model.available()
            real, ideal = self.device.pop(), self.model.take()
            assert (real is None) == (ideal is None)
            if real is None:
                break
            assert (real.id, real.slots) == (ideal.id, ideal.slots)
            assert b"".join(real.readable) == self.content(ideal.readable)
            assert b"".join(real.writable) == self.content(ideal.writable)
            self.taken.append((real, ideal))

    def content(self, parts):
        return b"".join(self.memories[1].read(*part) for part in parts)

    @precondition(lambda self: self.taken)
    @rule(which=st.integers(0, 7), share=st.sampled_from([0, 0.5, 1]))
    def give(self, which, share):
        real, ideal = self.taken.pop(which % len(self.taken))
        written = int(real.writable_length * share)
        self.device.push(real, written)
        self.unpublished = True
        self.model.give(ideal, written)

    @rule()
    def publish_used(self):
        real, ideal = self.device.publish_used(), self.model.publish()
        # A queue that was restored does not know what was signalled before: it may do so once too often.
        assert real == ideal or (self.restored and real)
        self.restored = self.restored and not real
        self.unpublished = False

    @rule(on=st.booleans())
    def device_notifications(self, on):
        if on:
            assert self.device.request_notifications() == self.model.enable_notifications()
        else:
            self.device.suppress_notifications()
            self.model.disable_notifications()

    @precondition(lambda self: not self.taken)
    @rule()
    def save_and_restore(self):
        self.publish_used()
        state = self.device.state()
        assert state == self.model.state()
        self.device = self.rig.device(self.shared, state)
        self.model = self.rig.model_device(self.memories[1], state)
        self.restored = True

    @precondition(lambda self: not self.taken)
    @rule()
    def reset(self):
        self.device.reset()
        assert self.device.state() == QueueState()
        device = self.device
        self.make_queues(None)
        self.device = device

    # -- both

    @rule(which=st.integers(0, 7), share=st.sampled_from([0, 0.5, 1]))
    def exchange(self, which, share):
        """All that is offered comes back, in some order."""
        self.publish_added()
        self.take(64)
        while self.taken:
            self.give(which, share)
        self.publish_used()
        self.reap()

    # -- always

    @invariant()
    def same_bytes(self):
        # Between give and publish a used element may be there already or not: nobody looks at it.
        if hasattr(self, "rig") and not self.unpublished:
            real, ideal = bytearray(self.view), bytearray(self.copy)
            area = self.rig.areas[2]
            if self.rig.packed and real[area + 2] == 1:
                real[area : area + 2] = ideal[area : area + 2]  # means nothing while events are off
            assert real == ideal

    def teardown(self):
        """Everything the driver offered comes back once."""
        if not hasattr(self, "rig"):
            return
        self.exchange(0, 1)
        assert not self.waiting
        assert self.device.fault_error() is None
        self.same_bytes()


TestDeviceBesideModel = DeviceBesideModel.TestCase
