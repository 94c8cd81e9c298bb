"""Device and driver of a split ring against each other, over all features and both byte orders."""

import random

import pytest

from virtio.virtqueue import device_queue, driver_queue

INDIRECT, EVENT_IDX, IN_ORDER = 1 << 28, 1 << 29, 1 << 35
TABLES = 0xC0000


class Pair:
    """A driver and a device on one ring, and a sum of what each did."""

    def __init__(self, ring, features, seed):
        areas = (ring.memory, ring.size, ring.descriptors, ring.driver_area, ring.device_area)
        tables = TABLES if features & INDIRECT else 0
        entries = min(4, ring.size)
        options = {"features": features, "byte_order": ring.byte_order}
        self.driver = driver_queue(*areas, indirect_tables=tables, indirect_entries=entries, **options)
        self.device = device_queue(*areas, **options)
        self.random = random.Random(seed)
        self.ring = ring
        self.sent = {}
        self.held = []
        self.reaped = []

    def offer(self, token):
        count = self.random.randint(1, min(6, self.ring.size))
        readable = self.random.randint(0, count)
        buffers = [(0x90000 + 4096 * i, self.random.randint(1, 4096)) for i in range(count)]
        if not self.driver.add_buffers(buffers[:readable], buffers[readable:], token):
            return False
        lengths = [sum(length for _, length in part) for part in (buffers[:readable], buffers[readable:])]
        self.sent[token] = lengths
        return True

    def take(self):
        while chain := self.device.pop():
            self.held.append(chain)

    def give(self):
        """Complete some of what is held, in any order."""
        self.random.shuffle(self.held)
        for _ in range(self.random.randint(0, len(self.held))):
            chain = self.held.pop()
            self.device.push(chain, chain.writable_length)

    def reap(self):
        done = self.driver.reap_completions()
        for token, written in done:
            assert written == self.sent.pop(token)[1]
            self.reaped.append(token)


@pytest.mark.parametrize("byte_order", ["little", "big"])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "features", [a | b | c for a in (0, INDIRECT) for b in (0, EVENT_IDX) for c in (0, IN_ORDER)]
)
@pytest.mark.parametrize("size", [1, 8, 64])
def test_nothing_is_lost_doubled_or_changed(raw_split, features, size, legacy, byte_order):
    pair = Pair(raw_split(size=size, legacy=legacy, byte_order=byte_order), features, seed=size)
    token = 0
    while token < 400:
        while pair.random.random() < 0.8 and pair.offer(token):
            token += 1
        pair.driver.publish_added()
        pair.take()
        pair.give()
        pair.device.publish_used()
        pair.reap()
    while pair.driver.outstanding:
        pair.driver.publish_added()
        pair.take()
        pair.give()
        pair.device.publish_used()
        pair.reap()
    assert sorted(pair.reaped) == list(range(token))
    if features & IN_ORDER:
        assert pair.reaped == list(range(token))
    assert pair.driver.free_descriptors == size
    assert pair.device.outstanding == 0
    assert pair.device.state() == pair.driver.state()


@pytest.mark.parametrize("features", [0, EVENT_IDX])
def test_no_wake_up_is_missed(raw_split, features):
    """Each side sleeps only after it asked to be notified; a missed notification would be a dead end."""
    pair = Pair(raw_split(size=16), features, seed=7)
    device_awake = driver_awake = True
    token = kicks = calls = 0
    while len(pair.reaped) < 3000:
        assert device_awake or driver_awake
        if driver_awake:
            pair.driver.suppress_notifications()
            pair.reap()
            while token < 3000 and pair.offer(token):
                token += 1
            if pair.driver.publish_added():
                kicks += 1
                device_awake = True
            driver_awake = pair.driver.request_notifications()
        if device_awake:
            pair.device.suppress_notifications()
            pair.take()
            pair.give()
            if pair.held:
                chain = pair.held.pop()
                pair.device.push(chain, chain.writable_length)
            if pair.device.publish_used():
                calls += 1
                driver_awake = True
            device_awake = pair.device.request_notifications() or bool(pair.held)
    assert sorted(pair.reaped) == list(range(3000))
    assert 0 < kicks <= 3000
    assert 0 < calls <= 3000


def test_a_restored_device_goes_on(raw_split):
    ring = raw_split(size=8)
    pair = Pair(ring, EVENT_IDX, seed=3)
    for token in range(300):
        assert pair.offer(token)
        pair.driver.publish_added()
        state = pair.device.state()
        pair.device = device_queue(
            ring.memory,
            8,
            ring.descriptors,
            ring.driver_area,
            ring.device_area,
            features=EVENT_IDX,
            state=state,
        )
        pair.take()
        (chain,) = pair.held
        pair.held.clear()
        pair.device.push(chain, chain.writable_length)
        assert pair.device.publish_used()
        pair.reap()
    assert pair.reaped == list(range(300))
