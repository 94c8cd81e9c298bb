"""A fake of the device side, so that messages are tested without queues, and counting of descriptors."""

import gc
import os
import socket
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from virtio.errors import DriverError, FeatureError, VirtioError
from virtio.vhost_user.backend import BackendSession
from virtio.vhost_user.loop import ControlLoop
from virtio.virtqueue.state import QueueState

FEATURES = 1 << 32 | 1 << 34 | 1 << 29 | 0b110


class FakeVring:
    """Remembers what it was told, in order; owns descriptors as the real one does."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.max_size = 256
        self.log: list[tuple[object, ...]] = []
        self.fds: dict[str, int | None] = {}
        self.enabled = False
        self.running = False
        self.state = QueueState()
        self.start_error: VirtioError | None = None
        self.counters = {"requests": 0, "kicks": 0}

    def stats(self) -> dict[str, int]:
        return self.counters if self.running else {}

    def set_size(self, size: int) -> None:
        self.log.append(("size", size))

    def set_addresses(
        self, descriptors: int, driver_area: int, device_area: int, *, user: bool = False
    ) -> None:
        self.log.append(("addresses", descriptors, driver_area, device_area, user))

    def set_state(self, state: QueueState) -> None:
        self.state = state
        self.log.append(("state", state))

    def set_fd(self, which: str, fd: int | None) -> None:
        old = self.fds.pop(which, None)
        if old is not None:
            os.close(old)
        self.fds[which] = fd
        self.log.append((which, fd is not None))

    def set_kick(self, fd: int | None, *, in_band: bool = False) -> None:
        self.set_fd("kick", fd)

    def set_call(self, fd: int | None) -> None:
        self.set_fd("call", fd)

    def set_err(self, fd: int | None) -> None:
        self.set_fd("err", fd)

    def set_enabled(self, enabled: bool) -> None:
        self.enabled = enabled
        self.log.append(("enabled", enabled))

    def kick(self) -> None:
        self.log.append(("kicked",))

    def start(self) -> None:
        if self.start_error is not None:
            raise self.start_error
        self.running = True
        self.log.append(("start",))

    def stop(self) -> QueueState:
        self.running = False
        self.log.append(("stop",))
        return self.state

    def forget(self) -> None:
        self.running = False
        for which in list(self.fds):
            self.set_fd(which, None)


class FakeAttachment:
    """Stands in for virtio.device.Attachment."""

    def __init__(
        self,
        on_config_change: Callable[[], None] | None = None,
        on_fault: Callable[[int, VirtioError], None] | None = None,
    ) -> None:
        self.device: object = None  # not of a kind that has messages of its own
        self.on_config_change = on_config_change
        self.on_fault = on_fault
        self.offered_features = FEATURES
        self.features = 0
        self.memory: object = None
        self.vrings = [FakeVring(0), FakeVring(1)]
        self.config = bytearray(range(16))
        self.resets = 0
        self.closed = False
        self._status = 0

    def set_features(self, mask: int) -> None:
        if mask & ~self.offered_features:
            raise FeatureError("a bit that was not offered")
        self.features = mask

    def read_config(self, offset: int, size: int) -> bytes:
        if offset > 200:
            raise DriverError("no configuration there")
        return bytes(self.config[offset : offset + size])

    def write_config(self, offset: int, data: bytes, *, migration: bool = False) -> None:
        if offset == 0 and not migration:
            raise DriverError("read-only")
        self.config[offset : offset + len(data)] = data

    def set_memory(self, memory: object) -> None:
        self.memory = memory

    @property
    def status(self) -> int:
        return self._status

    @status.setter
    def status(self, value: int) -> None:
        self._status = value
        if not value:
            self.reset()

    def reset(self) -> None:
        self.resets += 1
        self.features = 0
        for vring in self.vrings:
            vring.forget()

    def close(self) -> None:
        self.closed = True
        self.memory = None
        for vring in self.vrings:
            vring.forget()


@pytest.fixture
def fake_attachment() -> type[FakeAttachment]:
    return FakeAttachment


@pytest.fixture
def count_fds() -> Callable[[], int]:
    return lambda: len(os.listdir("/proc/self/fd"))


@pytest.fixture
def no_fd_leaks(count_fds: Callable[[], int]) -> Iterator[None]:
    gc.collect()  # what earlier tests left behind goes now, not meanwhile
    before = count_fds()
    yield
    assert count_fds() == before


@pytest.fixture
def served() -> Iterator[Callable[..., SimpleNamespace]]:
    """Serves fake devices on socket pairs, on a thread; gives socket, attachment and reports of each."""
    loop = ControlLoop()
    running = threading.Event()
    running.set()
    sessions: list[SimpleNamespace] = []

    def make(withhold: int = 0) -> SimpleNamespace:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        made = SimpleNamespace(socket=ours, reports=[], ended=threading.Event(), loop=loop)
        started = threading.Event()

        def attach(changed: Callable[[], None], fault: Callable[[int, VirtioError], None]) -> FakeAttachment:
            made.attachment = FakeAttachment(changed, fault)
            return made.attachment

        def begin() -> None:
            made.session = BackendSession(
                loop,
                theirs,
                attach,  # type: ignore[arg-type]
                on_report=made.reports.append,
                on_end=made.ended.set,
                withhold=withhold,
            )
            started.set()

        loop.call(begin)
        assert started.wait(5)
        sessions.append(made)
        return made

    def run() -> None:
        while running.is_set():
            loop.run_once()
        for made in sessions:
            made.session.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield make
    finally:
        running.clear()
        loop.call(lambda: None)
        thread.join(10)
        for made in sessions:
            made.socket.close()
        loop.close()
    assert not thread.is_alive()
