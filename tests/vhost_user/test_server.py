"""The server: several devices, relistening, inherited and connected sockets, an end in every state."""

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from virtio.errors import AddressInUseError, DeviceGoneError, HostError, UsageError, VirtioError
from virtio.vhost_user import server as module
from virtio.vhost_user.frontend import Frontend
from virtio.vhost_user.messages import ProtocolFeature as P
from virtio.vhost_user.server import Server

pytestmark = pytest.mark.usefixtures("no_fd_leaks")


class FakeDevice:
    def __init__(self, attachment: Callable[..., Any]) -> None:
        self.attachment = attachment
        self.attachments: list[Any] = []

    def attach(self, **hooks: Any) -> Any:
        self.attachments.append(self.attachment(**hooks))
        return self.attachments[-1]


@pytest.fixture
def device(fake_attachment: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(module, "_attacher", lambda poll_us: lambda device, **hooks: device.attach(**hooks))
    return FakeDevice(fake_attachment)


def test_several_devices(tmp_path: Path, device: Any, fake_attachment: Any) -> None:
    other = FakeDevice(fake_attachment)
    with Server() as server:
        server.add(device, tmp_path / "a")
        server.add(other, f"vhost-user:{tmp_path}/b")
        server.start()
        with Frontend.connect(tmp_path / "a") as a, Frontend.connect(tmp_path / "b") as b:
            assert a.get_queue_num() == b.get_queue_num() == 2
        assert [len(device.attachments), len(other.attachments)] == [1, 1]
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()
    assert device.attachments[0].closed


@pytest.mark.parametrize(("withhold", "offered"), [(None, False), (0, True), (P.CONFIG.mask, True)])
def test_in_band_notifications_only_where_asked_for(
    tmp_path: Path, device: Any, withhold: int | None, offered: bool
) -> None:
    with Server() as server:
        server.add(device, tmp_path / "s", withhold=withhold)
        server.start()
        with Frontend.connect(tmp_path / "s") as front:
            assert bool(front.get_protocol_features() & P.INBAND_NOTIFICATIONS.mask) is offered


def test_a_device_that_comes_later(tmp_path: Path, device: Any) -> None:
    with Server() as server:
        service = server.add(None, tmp_path / "s")
        waiting = threading.Thread(target=lambda: Frontend.connect(tmp_path / "s").close())
        waiting.start()
        service.device = device
        server.start()
        waiting.join(10)
    assert len(device.attachments) == 1


def test_a_device_that_never_comes(tmp_path: Path) -> None:
    with Server() as server:
        server.add(None, tmp_path / "s")
        with pytest.raises(UsageError, match="no device"):
            server.start()
    assert not (tmp_path / "s").exists()


def test_a_connection_that_is_never_served(tmp_path: Path, device: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours, Server() as server:
        assert server.add(device, "given", connected=theirs).serves_one
    assert device.attachments == []


def wait_gone(front: Frontend) -> bool:
    """Whether the back-end lets go of the connection, soon."""
    for _ in range(1000):
        try:
            front.get_features()
        except DeviceGoneError:
            return True
    return False


def test_another_device_in_its_place(tmp_path: Path, device: Any, fake_attachment: Any) -> None:
    other = FakeDevice(fake_attachment)
    with Server() as server:
        service = server.add(device, tmp_path / "s")
        server.start()
        with Frontend.connect(tmp_path / "s") as front:
            front.get_features()
            server.call(lambda: service.replace(other))
            assert wait_gone(front)
        with Frontend.connect(tmp_path / "s") as front:
            front.get_features()
        assert [len(device.attachments), len(other.attachments)] == [1, 1]
        assert device.attachments[0].closed


def test_many_reconnects(tmp_path: Path, device: Any, count_fds: Callable[[], int]) -> None:
    with Server() as server:
        service = server.add(device, tmp_path / "s")
        server.start()
        counts = []
        for _ in range(50):
            with Frontend.connect(tmp_path / "s") as front:
                front.get_features()
            counts.append(count_fds())
        assert max(counts[10:]) <= max(counts[:10]) + 5  # a leak would be forty
        assert service.connections == 50


def test_one_front_end_at_a_time(tmp_path: Path, device: Any) -> None:
    with Server() as server:
        service = server.add(device, tmp_path / "s")
        server.start()
        with Frontend.connect(tmp_path / "s") as first:
            with pytest.raises(VirtioError, match="did not answer") as late:
                Frontend.connect(tmp_path / "s", timeout=0.1)
            assert "one at a time" in late.value.fix
            assert service.busy
            first.get_features()
        with Frontend.connect(tmp_path / "s") as second:
            second.get_features()


def test_a_protocol_error_ends_that_connection_only(
    tmp_path: Path, device: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with Server() as server, caplog.at_level(logging.WARNING):
        server.add(device, tmp_path / "s")
        server.start()
        for nonsense in (b"GET / HTTP/1.1\r\n\r\n", bytes(12), b"\xff" * 100):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.connect(str(tmp_path / "s"))
                sock.send(nonsense)
                sock.settimeout(5)
                with contextlib.suppress(ConnectionResetError):
                    assert sock.recv(1) == b""
        with Frontend.connect(tmp_path / "s") as front:
            front.get_features()
    assert len(caplog.messages) == 3
    for message in caplog.messages:
        assert "[E-PROTOCOL]" in message
        assert "\n" not in message


def test_a_device_that_cannot_be_attached(tmp_path: Path, device: Any) -> None:
    reports: list[VirtioError] = []
    make, device.attachment = device.attachment, lambda **hooks: 1 // 0
    with Server(on_report=lambda service, error: reports.append(error)) as server:
        server.add(device, tmp_path / "s")
        server.start()
        with pytest.raises(DeviceGoneError):
            Frontend.connect(tmp_path / "s")
        device.attachment = make
        Frontend.connect(tmp_path / "s").close()
    assert "ZeroDivisionError" in str(reports[0])


def test_one_off(tmp_path: Path, device: Any) -> None:
    with Server() as server:
        server.add(device, tmp_path / "s", one_off=True)
        server.start()
        Frontend.connect(tmp_path / "s").close()
        assert server.wait(5)
        assert not (tmp_path / "s").exists()


def test_one_off_of_two(tmp_path: Path, device: Any) -> None:
    """The server ends with the last of its services."""
    with Server() as server:
        server.add(device, tmp_path / "a", one_off=True)
        server.add(device, tmp_path / "b", one_off=True)
        server.start()
        Frontend.connect(tmp_path / "a").close()
        assert not server.wait(0.05)
        Frontend.connect(tmp_path / "b").close()
        assert server.wait(5)


def test_inherited_listening_socket(tmp_path: Path, device: Any) -> None:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(tmp_path / "s"))
    listening.listen()
    with Server() as server:
        server.add(device, f"fd:{listening.detach()}")
        server.start()
        for _ in range(2):
            Frontend.connect(tmp_path / "s").close()
    assert (tmp_path / "s").exists()


def test_inherited_connected_socket(device: Any) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with Server() as server:
        server.add(device, f"fd:{theirs.detach()}")
        server.start()
        with Frontend.from_socket(ours) as front:
            front.get_features()
        assert server.wait(5)


def test_connecting_to_a_front_end(tmp_path: Path, device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    path = tmp_path / "q"
    with pytest.raises(HostError, match="cannot connect"), Server() as server:
        server.add(device, f"connect:{path}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as hypervisor, Server() as server:
        hypervisor.bind(str(path))
        hypervisor.listen()
        hypervisor.settimeout(5)
        server.add(device, f"connect:{path}")
        server.start()
        for _ in range(3):
            with Frontend.from_socket(hypervisor.accept()[0]) as front:
                front.get_features()


def test_an_address_in_use(tmp_path: Path, device: Any) -> None:
    with Server() as server, Server() as second:
        server.add(device, tmp_path / "s")
        with pytest.raises(AddressInUseError):
            second.add(device, tmp_path / "s")
        assert (tmp_path / "s").exists()
        server.start()
        Frontend.connect(tmp_path / "s").close()


def test_misuse(tmp_path: Path, device: Any) -> None:
    with Server() as server:
        server.start()
        with pytest.raises(UsageError, match="before"):
            server.add(device, tmp_path / "s")
        with pytest.raises(UsageError, match="once"):
            server.start()
        server.stop()
        server.stop()
        with pytest.raises(UsageError, match="once"):
            server.start()


def test_stopping_with_a_front_end_connected(tmp_path: Path, device: Any) -> None:
    server = Server()
    server.add(device, tmp_path / "s")
    server.start()
    with Frontend.connect(tmp_path / "s") as front:
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 5
        with pytest.raises(DeviceGoneError):
            front.get_features()
    assert device.attachments[0].closed


def test_a_stop_that_meets_a_stuck_device(tmp_path: Path, device: Any) -> None:
    released = threading.Event()
    server = Server()
    server.add(device, tmp_path / "s")
    server.start()
    with Frontend.connect(tmp_path / "s"):
        attachment = device.attachments[0]
        close = attachment.close
        attachment.close = lambda: (released.wait(10), close())
        with pytest.raises(HostError, match="did not end"):
            server.stop(timeout=0.05)
        released.set()
        server.stop()


def test_running_out_of_descriptors(tmp_path: Path, device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that cannot be accepted is reported, and taken once that is possible again."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    reports: list[VirtioError] = []
    with Server(on_report=lambda service, error: reports.append(error)) as server:
        service = server.add(device, tmp_path / "s")
        accept = service._listener.accept  # type: ignore[union-attr]
        failures = iter([OSError(24, os.strerror(24))] * 3)

        def failing() -> socket.socket | None:
            for error in failures:
                raise error
            return accept()

        monkeypatch.setattr(service._listener, "accept", failing)
        server.start()
        Frontend.connect(tmp_path / "s").close()
    assert [type(report) for report in reports] == [HostError] * 3
