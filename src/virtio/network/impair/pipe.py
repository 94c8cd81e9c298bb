"""One direction of an impaired link: frames come in, and leave later, changed, twice or never.

A frame takes this way: lost? duplicated? then each copy waits for the rate, is corrupted, is delayed or
overtakes; it is kept in a heap by the time it is due. What is due is handed on by one thread at a time, so
that order holds: the thread that brings a frame, or the timer's, which sleeps until the next one is due.
"""

from __future__ import annotations

import os
import threading

import cython
from cython.cimports.libc.stdint import int64_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memset
from cython.cimports.posix.time import CLOCK_MONOTONIC
from cython.cimports.virtio.memory import atomic
from cython.cimports.virtio.memory.clock import SECOND, read_clock
from cython.cimports.virtio.network.frame import BURST, GSO_NONE, Frame
from cython.cimports.virtio.network.impair.chance import deviation, happens, next_word, seed_chance, uniform
from cython.cimports.virtio.network.impair.damage import finish_checksum, flip
from cython.cimports.virtio.network.impair.heap import Held, keep, make_room, pop, push
from cython.cimports.virtio.network.threads import (
    make_condition,
    pthread_cond_broadcast,
    pthread_cond_destroy,
    pthread_cond_signal,
    pthread_cond_wait,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    wait_until,
)

from virtio.errors import UsageError
from virtio.network.impair.settings import DISTRIBUTIONS, Impairment

__all__ = ["Pipe"]


class Pipe:
    """Hands what it is given on to ``target``, impaired.

    ``seed`` makes two runs alike: the same frames, in the same order, meet the same fate. ``manual`` has time
    stand still but for `advance`, without a thread.
    """

    def __cinit__(self) -> None:
        pthread_mutex_init(cython.address(self.mutex), cython.NULL)
        make_condition(cython.address(self.wake))
        make_condition(cython.address(self.settled))

    def __init__(
        self,
        target: Sink | None = None,
        settings: Impairment | None = None,
        *,
        seed: int | None = None,
        stream: int = 0,
        manual: bool = False,
    ) -> None:
        self.target = target
        self.manual = manual
        self.wakes_at = NEVER
        self.reseed(int.from_bytes(os.urandom(8)) if seed is None else seed, stream)
        self.set(settings or Impairment())

    def __dealloc__(self) -> None:
        while self.heap.count > 0:
            free(pop(cython.address(self.heap)))
        free(self.heap.places)
        pthread_cond_destroy(cython.address(self.settled))
        pthread_cond_destroy(cython.address(self.wake))
        pthread_mutex_destroy(cython.address(self.mutex))

    def reseed(self, seed: int, stream: int = 0) -> None:
        """Start all chances anew; ``stream`` keeps pipes of one seed apart."""
        if not 0 <= seed < 1 << 64:
            raise UsageError(f"a seed is a number from 0 to 2**64 - 1, not {seed}")
        start: uint64_t = seed
        number: uint64_t = stream
        purpose: uint64_t
        step: uint64_t = 0xD1342543DE82EF95
        pthread_mutex_lock(cython.address(self.mutex))
        for purpose in range(PURPOSES):
            seed_chance(cython.address(self.chances[purpose]), start + step * (PURPOSES * number + purpose))
        self.bad = False
        self.since_leap = 0
        pthread_mutex_unlock(cython.address(self.mutex))
        self.seed = seed

    def set(self, settings: Impairment) -> None:
        """Treat frames so from now on; those that are held keep the time they were given."""
        fresh = cython.declare(Settings)
        memset(cython.address(fresh), 0, cython.sizeof(fresh))
        fresh.delay = settings.delay
        fresh.jitter, fresh.jitter_correlation = settings.jitter
        fresh.distribution = DISTRIBUTIONS.index(settings.distribution)
        fresh.loss.probability, fresh.loss.correlation = settings.loss
        fresh.duplicate.probability, fresh.duplicate.correlation = settings.duplicate
        fresh.corrupt.probability, fresh.corrupt.correlation = settings.corrupt
        fresh.reorder.probability, fresh.reorder.correlation = settings.reorder
        fresh.gap = settings.gap
        if settings.gemodel is not None:
            fresh.gilbert = True
            fresh.to_bad, fresh.to_good, fresh.loss_bad, fresh.loss_good = settings.gemodel
        fresh.rate, fresh.overhead = settings.rate, settings.overhead
        fresh.burst, fresh.queue = settings.burst_bytes, settings.queue_bytes
        fresh.police = settings.exceed == "drop"
        fresh.limit = settings.limit
        active: cython.bint = settings.active
        pthread_mutex_lock(cython.address(self.mutex))
        self.now = fresh
        self.active = active
        self.settle()
        pthread_mutex_unlock(cython.address(self.mutex))
        self.settings = settings
        if active and self.thread is None and not self.manual:
            self.thread = threading.Thread(target=self.run, name="virtio-impair", daemon=True)
            self.thread.start()

    def aim(self, target: Sink | None) -> None:
        """Hand on to ``target`` from now on; None drops. On return no thread is in the former's put."""
        former = self.target  # not to be freed under the lock
        changed: cython.bint = False
        while not changed:
            with cython.nogil:
                pthread_mutex_lock(cython.address(self.mutex))
                while self.delivering:
                    pthread_cond_wait(cython.address(self.settled), cython.address(self.mutex))
                pthread_mutex_unlock(cython.address(self.mutex))
            # Nobody waits for the GIL with the lock held, so it is taken anew.
            pthread_mutex_lock(cython.address(self.mutex))
            if not self.delivering:
                self.target = target
                changed = True
            pthread_mutex_unlock(cython.address(self.mutex))
        del former

    def close(self) -> None:
        """End the timer; what is held is dropped."""
        pthread_mutex_lock(cython.address(self.mutex))
        self.closing = True
        self.active = False
        pthread_cond_signal(cython.address(self.wake))
        pthread_mutex_unlock(cython.address(self.mutex))
        if self.thread is not None:
            self.thread.join()
        pthread_mutex_lock(cython.address(self.mutex))
        while self.heap.count > 0:
            free(pop(cython.address(self.heap)))
        self.settle()
        pthread_mutex_unlock(cython.address(self.mutex))

    def stats(self) -> dict[str, int]:
        """Counters since the start, and what is held now.

        ``frames`` and ``bytes`` came; ``passed`` left; ``lost``, ``duplicated``, ``corrupted`` and
        ``reordered`` were; ``over_rate``, ``over_limit`` and ``no_room`` (at the receiver's) were dropped;
        ``held`` frames of ``held_bytes`` wait, ``queue_bytes`` of them for the rate.
        """
        pthread_mutex_lock(cython.address(self.mutex))
        counters: Counters = self.counters
        held: cython.int = self.heap.count
        held_bytes: uint64_t = self.heap.bytes
        backlog: int64_t = self.backlog()
        pthread_mutex_unlock(cython.address(self.mutex))
        return {**counters, "held": held, "held_bytes": held_bytes, "queue_bytes": backlog}

    @property
    def next_due(self) -> int | None:
        """When the next frame that is held is due, in nanoseconds of the pipe's clock."""
        pthread_mutex_lock(cython.address(self.mutex))
        due: int64_t = self.heap.places[0].due if self.heap.count > 0 else NEVER
        pthread_mutex_unlock(cython.address(self.mutex))
        return None if due == NEVER else due

    def advance(self, time: int) -> None:
        """Set the manual clock to ``time`` nanoseconds and hand on all that is due by then."""
        if not self.manual:
            raise UsageError("this pipe's clock is not manual")
        until: int64_t = time
        with cython.nogil:
            pthread_mutex_lock(cython.address(self.mutex))
            self.time = until
            self.drain(until, 0x7FFFFFFF)
            pthread_mutex_unlock(cython.address(self.mutex))

    def run(self) -> None:
        """Hand on what is due until `close`; the target of the timer's thread."""
        with cython.nogil:
            self.serve()

    def put(self, queue, frames, count):
        i: cython.int
        now: int64_t
        if not atomic.load_int(cython.address(self.engaged), atomic.ACQUIRE):
            return count if self.target is None else self.target.put(queue, frames, count)
        pthread_mutex_lock(cython.address(self.mutex))
        now = self.clock()
        for i in range(count):
            self.judge(queue, cython.address(frames[i]), now)
        self.drain(now, MOST_DRAINED)
        self.nudge()
        pthread_mutex_unlock(cython.address(self.mutex))
        return count

    def clock(self):
        return self.time if self.manual else read_clock(CLOCK_MONOTONIC)

    def judge(self, queue, frame, now):
        copies: cython.int = 1
        copy: cython.int
        self.counters.frames += 1
        self.counters.bytes += frame.length
        if self.loses():
            self.counters.lost += 1
            copies -= 1
        duplicate: Share = self.now.duplicate
        if happens(cython.address(self.chances[DUPLICATE]), duplicate.probability, duplicate.correlation):
            self.counters.duplicated += 1
            copies += 1
        for copy in range(copies):  # noqa: B007 -- a C integer
            self.hold(queue, frame, now)

    def loses(self):
        lost: cython.bint = happens(
            cython.address(self.chances[LOSS]), self.now.loss.probability, self.now.loss.correlation
        )
        if not self.now.gilbert:
            return lost
        was_bad: cython.bint = self.bad
        chance: cython.pointer[Chance] = cython.address(self.chances[GILBERT])
        if uniform(chance) <= (self.now.to_good if was_bad else self.now.to_bad):
            self.bad = not was_bad
        return uniform(chance) <= (self.now.loss_bad if was_bad else self.now.loss_good) or lost

    def hold(self, queue, frame, now):
        held: cython.pointer[Held]
        due: int64_t
        if self.heap.count >= self.now.limit:
            self.counters.over_limit += 1
            return
        due = self.departure(frame, now)
        if due < 0:
            self.counters.over_rate += 1
            return
        held = keep(queue, frame)
        if held == cython.NULL or not make_room(cython.address(self.heap)):
            free(held)
            self.counters.no_room += 1
            return
        if self.spoil(held):
            free(held)
            return
        held.due = due + self.lag()
        push(cython.address(self.heap), held)

    def departure(self, frame, now):
        """When the rate lets the frame go; -1: it is dropped."""
        length: int64_t = frame.length + self.now.overhead
        rate: int64_t = self.now.rate
        if rate == 0:
            return now
        # The token bucket as a clock: `paid_until` runs ahead of the time by what was let pass, and may be
        # ahead by a full burst without a wait.
        slack: int64_t = duration(self.now.burst, rate)
        waiting: int64_t = self.paid_until - slack - now
        paid: int64_t = (self.paid_until if self.paid_until > now else now) + duration(length, rate)
        if self.now.police:
            if paid - slack > now:
                return -1
        elif waiting > 0 and waiting > duration(self.now.queue, rate) - duration(length, rate):
            return -1
        self.paid_until = paid
        return paid - slack if paid - slack > now else now

    def backlog(self):
        """Bytes that wait for the rate."""
        rate: int64_t = self.now.rate
        if rate == 0:
            return 0
        waiting: int64_t = self.paid_until - duration(self.now.burst, rate) - self.clock()
        return 0 if waiting < 0 else cython.cast(int64_t, waiting * 1e-9 * rate + 0.5)

    def lag(self):
        """Nanoseconds of delay for the next frame; 0 for one that overtakes."""
        reorder: Share = self.now.reorder
        chance: cython.pointer[Chance] = cython.address(self.chances[REORDER])
        if reorder.probability > 0.0:
            if self.since_leap >= self.now.gap - 1 and happens(
                chance, reorder.probability, reorder.correlation
            ):
                self.since_leap = 0
                self.counters.reordered += 1
                return 0
            self.since_leap += 1
        delay: int64_t = self.now.delay
        if self.now.jitter > 0:
            delay += cython.cast(
                int64_t,
                self.now.jitter
                * deviation(
                    cython.address(self.chances[JITTER]), self.now.distribution, self.now.jitter_correlation
                ),
            )
        return delay if delay > 0 else 0

    def spoil(self, held):
        """Flip a bit of the frame by chance. True: it is to be dropped instead."""
        chance: cython.pointer[Chance] = cython.address(self.chances[CORRUPT])
        corrupt: Share = self.now.corrupt
        if not happens(chance, corrupt.probability, corrupt.correlation):
            return False
        self.counters.corrupted += 1
        # Its segments would get checksums that are right: what a receiver would discard is discarded here.
        if held.frame.header.gso_type != GSO_NONE:
            return True
        finish_checksum(held)
        flip(held, next_word(chance))
        return False

    def drain(self, now, budget):
        """Hand on what is due, unless another thread is at it; the lock is held, but not meanwhile."""
        batch: cython.pointer[Held][BURST]
        count: cython.int
        while budget > 0 and not self.delivering:
            count = self.collect(now, batch, BURST if budget > BURST else budget)
            if count == 0:
                return
            budget -= count
            self.hand_on(batch, count)

    def collect(self, now, batch, most):
        """Take frames of one queue that are due out of the heap. Number of them."""
        count: cython.int = 0
        while count < most and self.heap.count > 0 and self.heap.places[0].due <= now:
            if count > 0 and self.heap.places[0].queue != batch[0].queue:
                break
            batch[count] = pop(cython.address(self.heap))
            count += 1
        return count

    def hand_on(self, batch, count):
        frames: Frame[BURST]
        i: cython.int
        taken: cython.int = 0
        for i in range(count):
            frames[i] = batch[i].frame
        self.delivering = True
        pthread_mutex_unlock(cython.address(self.mutex))
        if self.target is not None:
            taken = self.target.put(batch[0].queue, frames, count)
        for i in range(count):
            free(batch[i])
        pthread_mutex_lock(cython.address(self.mutex))
        self.delivering = False
        self.counters.passed += taken
        self.counters.no_room += count - taken
        self.settle()
        pthread_cond_broadcast(cython.address(self.settled))

    def settle(self):
        engaged: cython.int = self.active or self.heap.count > 0 or self.delivering
        atomic.store_int(cython.address(self.engaged), engaged, atomic.RELEASE)

    def nudge(self):
        """Wake the timer if it would sleep past the next frame."""
        if self.heap.count > 0 and self.heap.places[0].due < self.wakes_at:
            self.wakes_at = self.heap.places[0].due
            pthread_cond_signal(cython.address(self.wake))

    def serve(self):
        pthread_mutex_lock(cython.address(self.mutex))
        while not self.closing:
            self.drain(self.clock(), MOST_DRAINED)
            self.wait()
        pthread_mutex_unlock(cython.address(self.mutex))

    def wait(self):
        """Sleep until a frame is due; while another thread hands on, until that thread says so."""
        if self.closing:
            return
        if self.heap.count == 0 or self.delivering:
            self.wakes_at = NEVER
            pthread_cond_wait(cython.address(self.wake), cython.address(self.mutex))
        elif self.heap.places[0].due > self.clock():
            self.wakes_at = self.heap.places[0].due
            wait_until(cython.address(self.wake), cython.address(self.mutex), self.wakes_at)
        self.wakes_at = 0


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def duration(length: int64_t, rate: int64_t) -> int64_t:
    """Nanoseconds that so many bytes take."""
    return cython.cast(int64_t, cython.cast(cython.double, length) * SECOND / rate + 0.5)
