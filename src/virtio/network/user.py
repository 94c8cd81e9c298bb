"""``user:``: a network without privileges, by way of passt, which is started here and ends with the link."""

from __future__ import annotations

import contextlib
import logging
import re
import select
import shutil
import socket
import struct
import subprocess
import threading
from collections import deque
from collections.abc import Callable

from virtio.errors import NetworkError, NetworkExtraError, NetworkUrlError
from virtio.network.keeper import Dialer, Keeper
from virtio.network.link import Link
from virtio.network.options import flag, number, several
from virtio.network.passt import PasstLink
from virtio.network.url import Location

__all__ = ["Passt", "arguments", "open_user", "roomy_pair"]

log = logging.getLogger("virtio.network.user")

FORWARD = re.compile(r"(tcp|udp):(?:([0-9a-fA-F.:]+)/)?(\d{1,5}):(\d{1,5})")
LOOPBACK = "127.0.0.1"
RESTART_SECONDS = 1.0
READY_SECONDS = 5.0
END_SECONDS = 3.0

SO_SNDBUFFORCE = 32
BUFFER_BYTES = 8 << 20

NO_USER_NAMESPACE = (
    "passt locks itself into a user namespace: allow one here (sysctl user.max_user_namespaces, a "
    "container's seccomp or AppArmor profile; never in a chroot), or use tap:, switch: or stream:"
)

PROBE = bytes.fromhex("ffffffffffff ffffffffffff 0806 0001 0800 06 04 0001") + bytes.fromhex(
    "ffffffffffff 00000000 000000000000 c00002fe"
)
"""Who has 192.0.2.254? passt answers for every address, once it runs. It takes the sender for the guest, so
that is the address that it has for a guest of which it knows nothing: everybody's."""


class Passt(Dialer):
    """Starts passt, again when it ends, and turns what it says into messages of ours."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[str] | None = None
        self._said: deque[str] = deque(maxlen=10)
        self._reader: threading.Thread | None = None
        self._first: socket.socket | None = self.run()

    def run(self) -> socket.socket:
        """Start it, and wait until it serves. NetworkError with its last words if it does not."""
        ours, theirs = roomy_pair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [*self._command, "--fd", str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=[theirs.fileno()],
                    text=True,
                    errors="replace",
                )
            self._said.clear()
            self._reader = threading.Thread(target=self._listen, args=(self._process,), name="virtio-passt")
            self._reader.start()
            self._wait_ready(ours)
        except BaseException:
            ours.close()
            self._end()
            raise
        return ours

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            text = line.strip()
            if text and not text.startswith("Failed to send"):  # to a system log that is not there
                self._said.append(text)
                log.debug("passt: %s", text)

    def _wait_ready(self, ours: socket.socket) -> None:
        poll = select.poll()
        poll.register(ours, select.POLLIN)
        try:
            ours.sendall(struct.pack("!I", len(PROBE)) + PROBE)
            if not poll.poll(READY_SECONDS * 1000):
                return  # it runs, and is only slow to answer
            length = struct.unpack("!I", ours.recv(4, socket.MSG_WAITALL))[0]
            ours.recv(min(length, 1 << 16), socket.MSG_WAITALL)
        except (OSError, struct.error) as error:
            status = self._end()
            raise NetworkError(
                f"passt ended with status {status}: {self._said[-1] if self._said else 'it did not say why'}",
                fix=NO_USER_NAMESPACE
                if self._said and "user namespace" in self._said[-1]
                else "run it by hand to see more: " + " ".join(self._command),
            ) from error

    def dial(self, pause: Callable[[int | None, float | None], bool]) -> socket.socket | None:
        """The connection to the first one, then to a new one, after a pause."""
        if self._first is not None:
            sock, self._first = self._first, None
            return sock
        return None if pause(None, RESTART_SECONDS) else self.run()

    def hung_up(self) -> None:
        """Wait for its end: it ends with its connection."""
        status = self._end()
        if status not in (0, -15, None):
            log.warning("passt ended with status %d: %s", status, self._said[-1] if self._said else "")

    def close(self) -> None:
        """End it."""
        if self._first is not None:
            self._first.close()
        self._end()

    def _end(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        try:
            status = process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        if self._reader is not None:
            self._reader.join()
        if process.stderr is not None:
            process.stderr.close()
        return status


def roomy_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets, ours and passt's, of which passt's holds much: it drops what finds no room, and
    sends by the windowful.
    """
    ours, theirs = socket.socketpair()
    for option in (SO_SNDBUFFORCE, socket.SO_SNDBUF):  # the first takes CAP_NET_ADMIN
        with contextlib.suppress(PermissionError):
            theirs.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
            break
    return ours, theirs


def open_user(location: Location) -> Link:
    """Open ``user:``; NetworkExtraError without passt."""
    location.only("forward", "dns", "mtu", "address", "gateway", "host", "ipv4", "ipv6", "passt")
    if location.rest:
        raise NetworkUrlError(f"{location.url}: user: takes options only", fix="write user:?forward=...")
    command = [_program(location), *arguments(location)]
    mtu = number(location, "mtu", 0, 1280, 65520) or None
    dialer = Passt(command)
    link = PasstLink(mtu)
    link.keep(Keeper(link, dialer))
    return link


def _program(location: Location) -> str:
    name = location.options.get("passt", "passt")
    found = shutil.which(name)
    if found is None:
        raise NetworkExtraError(f"user: needs the program {name}", fix="apt install passt")
    return found


def arguments(location: Location) -> list[str]:
    """passt's arguments for the options of the URL. Raises NetworkUrlError."""
    words = ["--foreground"]
    for rule in several(location, "forward"):
        words += _forward(location, rule)
    if location.options.get("dns") == "off":
        words.append("--no-dhcp-dns")
    else:
        words += _each(location, "dns", "--dns")
    words += _each(location, "address", "--address") + _each(location, "gateway", "--gateway")
    if "mtu" in location.options:
        words += ["--mtu", str(number(location, "mtu", 0, 1280, 65520))]
    if not flag(location, "host", True):
        words.append("--no-map-gw")
    four, six = flag(location, "ipv4", True), flag(location, "ipv6", True)
    if not four and not six:
        raise NetworkUrlError(f"{location.url}: neither IPv4 nor IPv6 is left")
    return words + ([] if six else ["--ipv4-only"]) + ([] if four else ["--ipv6-only"])


def _each(location: Location, name: str, option: str) -> list[str]:
    words: list[str] = []
    for value in several(location, name):
        if not re.fullmatch(r"[0-9a-fA-F.:]+", value):
            raise NetworkUrlError(f"{location.url}: {name}={value} is no address")
        words += [option, value]
    return words


def _forward(location: Location, rule: str) -> list[str]:
    """A port of the host, by default on its loopback only, that leads into the guest."""
    found = FORWARD.fullmatch(rule)
    if found is None or not 0 < int(found[3]) < 65536 or not 0 < int(found[4]) < 65536:
        raise NetworkUrlError(
            f"{location.url}: forward={rule} is no forward",
            fix="write forward=tcp:[ADDRESS/]HOSTPORT:GUESTPORT",
        )
    option = "--tcp-ports" if found[1] == "tcp" else "--udp-ports"
    return [option, f"{found[2] or LOOPBACK}/{found[3]}:{found[4]}"]
