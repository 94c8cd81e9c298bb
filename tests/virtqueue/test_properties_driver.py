"""The compiled driver's end beside the model's, each with a model device: what they do must be the same."""

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from virtio.testing.rig import RING_PACKED, Rig, shared_memory
from virtio.virtqueue.state import QueueState

INDIRECT_DESC, EVENT_IDX, IN_ORDER, NOTIFICATION_DATA = 1 << 28, 1 << 29, 1 << 35, 1 << 38

features = st.sets(st.sampled_from([INDIRECT_DESC, EVENT_IDX, IN_ORDER])).map(sum)
rigs = st.one_of(
    st.builds(
        Rig,
        size=st.sampled_from([1, 2, 4, 8]),
        features=features.map(NOTIFICATION_DATA.__or__),
        byte_order=st.sampled_from(["little", "big"]),
        table_entries=st.just(1) | st.just(2) | st.just(4),
    ),
    st.builds(
        Rig,
        size=st.sampled_from([1, 2, 3, 5, 8]),
        features=features.map((RING_PACKED | NOTIFICATION_DATA).__or__),
        table_entries=st.just(1) | st.just(2) | st.just(4),
    ),
).filter(lambda rig: rig.table_entries <= rig.size)
buffer = st.tuples(st.integers(0, 200), st.integers(1, 56))


class DriverBesideModel(RuleBasedStateMachine):
    """Two memories, each with a model device; a compiled driver in one, a model driver in the other."""

    @initialize(rig=rigs, merge=st.booleans(), start=st.sampled_from([0, 1, 7, 0xFFFE]), wrap=st.booleans())
    def begin(self, rig, merge, start, wrap):
        self.rig, self.merge = rig, merge
        self.shared = shared_memory(rig.total)
        self.memories = [
            rig.model_memory(data) for data in (self.shared.view(0, rig.total), bytearray(rig.total))
        ]
        state = None
        if start or not wrap:
            index = start % rig.size if rig.packed else start
            state = QueueState(index, index, wrap, wrap) if rig.packed else QueueState(index, index)
            for memory in self.memories:
                rig.leave_at(memory, state)
        self.token = 0
        self.offered = []  # added, not yet taken: (token, readable, writable)
        self.taken = []  # pairs of chains
        self.early = []  # reaped by the compiled driver, not yet by the model
        self.waiting = set()
        self.make_queues(state)

    def make_queues(self, state):
        self.driver = self.rig.driver(self.shared, state)
        self.model = self.rig.model_driver(self.memories[1], state)
        self.devices = [self.rig.model_device(memory, state) for memory in self.memories]
        for device in self.devices:
            device.merge, device.merge_written = self.merge, True

    # -- the driver

    @precondition(lambda self: not self.early)
    @rule(parts=st.lists(buffer, min_size=1, max_size=5), split=st.integers(0, 5))
    def add(self, parts, split):
        parts = parts[: self.rig.size]
        readable, writable = parts[:split], parts[split:]
        added = self.driver.add_buffers(readable, writable, self.token)
        indirect = self.rig.goes_indirect(len(parts))
        assert added == self.model.add(readable, writable, self.token, indirect)
        if added:
            self.offered.append((self.token, readable, writable))
            self.waiting.add(self.token)
            self.token += 1
        assert self.driver.free_descriptors == self.model.free_descriptors
        assert self.driver.outstanding == len(self.model.outstanding)

    @rule()
    def publish_added(self):
        assert self.driver.publish_added() == self.model.publish()
        assert self.driver.notification_value(3) == self.model.notification_data(3)

    @rule(limit=st.integers(1, 3))
    def reap_some(self, limit):
        found = self.driver.reap_completions(limit)
        assert len(found) <= limit
        self.early += found

    @rule()
    def reap(self):
        found = self.model.reap()
        assert self.early + self.driver.reap_completions() == found
        self.early = []
        for token, _ in found:
            self.waiting.remove(token)
        assert self.driver.state() == self.model.state()

    @precondition(lambda self: not self.early)
    @rule(on=st.booleans())
    def driver_notifications(self, on):
        assert self.driver.is_finished() == self.model.done()
        if on:
            assert self.driver.request_notifications() == self.model.enable_notifications()
        else:
            self.driver.suppress_notifications()
            self.model.disable_notifications()

    @precondition(lambda self: not (self.waiting or self.taken))
    @rule()
    def save_and_restore(self):
        state = self.driver.state()
        assert state == self.model.state() == self.devices[0].state() == self.devices[1].state()
        self.make_queues(state)

    @precondition(lambda self: not (self.waiting or self.taken))
    @rule()
    def reset(self):
        self.memories[1].write(0, bytes(self.rig.tables))
        self.make_queues(None)
        assert self.driver.state() == QueueState()

    # -- the devices

    @rule(limit=st.integers(1, 4))
    def take(self, limit):
        for _ in range(limit):
            chains = [device.take() for device in self.devices]
            if None in chains:
                assert chains == [None, None]
                break
            _, readable, writable = self.offered.pop(0)
            for chain in chains:
                assert (chain.readable, chain.writable) == (readable, writable)
            assert chains[0].slots == chains[1].slots
            self.taken.append(chains)

    @precondition(lambda self: self.taken)
    @rule(which=st.integers(0, 7), share=st.sampled_from([0, 0.5, 1, 1]))
    def give(self, which, share):
        chains = self.taken.pop(which % len(self.taken))
        for device, chain in zip(self.devices, chains, strict=True):
            device.give(chain, int(chain.writable_length * share))

    @rule()
    def publish_used(self):
        first, second = (device.publish() for device in self.devices)
        assert first == second or self.early

    @rule(on=st.booleans(), after=st.integers(0, 5))
    def device_notifications(self, on, after):
        for device in self.devices:
            if on:
                device.enable_notifications(after)
            else:
                device.disable_notifications()

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

    def teardown(self):
        """Everything offered comes back once."""
        if not hasattr(self, "rig"):
            return
        self.exchange(0, 1)
        assert not self.waiting
        assert self.driver.free_descriptors == self.rig.size
        assert self.driver.fault_error() is None


TestDriverBesideModel = DriverBesideModel.TestCase
