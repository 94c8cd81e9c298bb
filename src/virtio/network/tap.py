"""``tap:`` and ``macvtap:``: an interface of the kernel at whose other end the NIC is."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
from collections.abc import Iterator

from virtio.errors import NetworkError, NetworkUrlError
from virtio.network import routes, tun
from virtio.network.fd_link import FdLink
from virtio.network.interface import Interface, State
from virtio.network.link import Link, Sink
from virtio.network.namespace import inside
from virtio.network.options import cidr, flag, number
from virtio.network.url import Location

__all__ = ["TapLink", "open_tap"]

NAME_LIMIT = 15
"""Bytes that the name of an interface may have."""

MOST_QUEUES = 256


class TapLink(FdLink):
    """A tap or macvtap that is open: a descriptor for each of its queues, and the interface.

    Frames pass with their virtio_net_hdr, so that neither side computes a checksum or cuts a segment that the
    other will do without.
    """

    def __init__(
        self, name: str, fds: list[int], interface: Interface, *, doomed: bool = False, follows: bool = True
    ) -> None:
        super().__init__(len(fds), header_size=tun.HEADER_SIZE)
        self._name, self._interface, self._doomed, self._follows = name, interface, doomed, follows
        self._accepts = tun.offloads(fds[0])
        self._mtu: int | None = interface.mtu
        self._enabled = len(fds)
        for queue, fd in enumerate(fds):
            self.set_fd(queue, fd)
        self.set_carrier(interface.up)
        interface.watch(self._changed)

    def _changed(self, state: State) -> None:
        if state.mtu is not None:
            self._mtu = state.mtu
        self.set_carrier(state.exists and state.up)

    @property
    def name(self) -> str:
        """Its URL without options."""
        return self._name

    @property
    def interface(self) -> Interface:
        """The kernel's end."""
        return self._interface

    @property
    def accepts(self) -> int:
        """All that the kernel finishes when it must."""
        return self._accepts

    @property
    def mtu(self) -> int | None:
        """The interface's."""
        return self._mtu

    @property
    def used_queues(self) -> int:
        """How many of its queues get frames."""
        return self._enabled

    def set_guest_offloads(self, features: int) -> None:
        """Have the kernel leave undone what the guest takes undone."""
        with _while_it_exists():
            tun.set_offloads(self.fd(0), features)

    def connect(self, guest: Sink, queues: int = 1) -> None:
        """Deliver to ``guest``; queues that it has no pair for get nothing."""
        super().connect(guest, queues)
        self.use_queues(queues)

    def use_queues(self, count: int) -> bool:
        """Spread what comes over the first ``count`` queues from now on.

        A tap sends a flow to the queue that it last came from, a macvtap goes by hashes of its own; False for
        that, and if there are fewer queues.
        """
        used = max(1, min(count, self.lane_count))
        with _while_it_exists():
            for queue in range(self._enabled, used):
                tun.set_enabled(self.fd(queue), True)
            for queue in range(used, self._enabled):
                tun.set_enabled(self.fd(queue), False)
        self._enabled = used
        return self._follows and used == count

    def close(self) -> None:
        """Close it; an interface that was made for it goes with that, unless it is to stay."""
        self._interface.close()
        super().close()
        if self._doomed:
            self._doomed = False
            with contextlib.suppress(NetworkError):
                routes.delete(self._interface)


@contextlib.contextmanager
def _while_it_exists() -> Iterator[None]:
    """Pass over the kernel's refusal where the interface was deleted: its carrier tells of that."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EBADFD:
            raise


def check_name(location: Location, name: str) -> str:
    """The name of an interface. Raises NetworkUrlError."""
    if not 0 < len(os.fsencode(name)) <= NAME_LIMIT or name in (".", ".."):
        raise NetworkUrlError(
            f"{location.url}: an interface's name has 1 to {NAME_LIMIT} bytes", fix="write tap:NAME"
        )
    if "/" in name or "%" in name or ":" in name or any(character.isspace() for character in name):
        raise NetworkUrlError(f"{location.url}: {name!r} is no name of an interface", fix="write tap:NAME")
    return name


def open_tap(location: Location) -> Link:
    """Open ``tap:NAME``: an existing tap, or one that is made for it."""
    location.only("persist", "owner", "bridge", "netns", "address", "up", "queues")
    name = check_name(location, location.rest)
    queues = number(location, "queues", 1, 1, MOST_QUEUES)
    address = cidr(location, "address")
    namespace = location.options.get("netns")
    fds = inside(namespace, lambda: _open_queues(name, queues))
    try:
        if "persist" in location.options or "owner" in location.options:
            tun.set_persistent(fds[0], flag(location, "persist", True), _owner(location))
        interface = Interface(name, namespace)
    except BaseException:
        _close_all(fds)
        raise
    try:
        if address is not None or "bridge" in location.options:
            routes.configure(interface, address, location.options.get("bridge"))
        if flag(location, "up", address is not None or "bridge" in location.options):
            interface.set_up()
        return TapLink(f"tap:{name}", fds, interface)
    except BaseException:
        interface.close()
        _close_all(fds)
        raise


def _open_queues(name: str, queues: int) -> list[int]:
    fds: list[int] = []
    try:
        for _ in range(queues):
            fds.append(tun.open_tap(name, queues > 1))
    except BaseException:
        _close_all(fds)
        raise
    return fds


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def _owner(location: Location) -> int | None:
    owner = location.options.get("owner")
    if owner is None or owner.isdecimal():
        return int(owner) if owner else None
    try:
        return pwd.getpwnam(owner).pw_uid
    except KeyError as error:
        raise NetworkUrlError(f"{location.url}: there is no user {owner!r}") from error
