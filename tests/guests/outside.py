"""A world for guests of QEMU: a network without privileges, sockets in it, the servers there, and NICs."""

from __future__ import annotations

import shutil
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

Stats = Mapping[str, list[dict[str, int]]]
"""What `Nic.stats` gives."""

HOST, GUEST = "192.0.2.1", "192.0.2.2"  # the host as passt shows it to a guest, and what the guest becomes
NEAR, FAR = "198.51.100.1", "198.51.100.2"  # two more addresses out there

HOLDER = f"""
import socket, subprocess, sys
line = socket.socket(fileno=int(sys.argv[1]))
for command in (
    "link set lo up", "addr add {NEAR}/32 dev lo", "addr add {FAR}/32 dev lo",
    "link add v0 type veth peer name v1", "link set v1 up", "link set v0 up",
    "addr add {GUEST}/24 dev v0", "route add default via {HOST}",
):
    subprocess.run(["ip", *command.split()], check=True)
line.send(b"ready")
while kind := line.recv(64):
    with socket.socket(type=int(kind)) as made:
        socket.send_fds(line, [b"made"], [made.fileno()])
"""

UDHCPC = """
cat >/tmp/lease <<'END'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add "$ip/$mask" dev "$interface"
ip route add default via $router dev "$interface"
: >/etc/resolv.conf
for server in $dns; do echo "nameserver $server" >>/etc/resolv.conf; done
END
chmod +x /tmp/lease
"""
"""Has `udhcpc -s /tmp/lease` configure the interface by what it was given."""


def until(what: Callable[[], object], seconds: float = 20) -> None:
    """Wait for something to come true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def more(after: Stats, before: Stats, kind: str) -> list[int]:
    """By how many frames the queues of one kind ("receive" or "transmit") are further on."""
    return [new["frames"] - old["frames"] for new, old in zip(after[kind], before[kind], strict=True)]


class Outside:
    """A network namespace in a user namespace of its own: whoever may make those needs no other privilege.

    OSError if that is not permitted.
    """

    def __init__(self, directory: Path) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line.settimeout(20)
        with theirs:
            command = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", HOLDER]
            self._holder = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stderr=subprocess.PIPE,
                text=True,
            )
        if self._line.recv(16) != b"ready":
            raise OSError(self._holder.communicate()[1])
        self.netns = f"/proc/{self._holder.pid}/ns/net"
        self.passt = directory / "passt"
        spaces = f"--user=/proc/{self._holder.pid}/ns/user --net={self.netns}"
        self.passt.write_text(
            f'#!/bin/sh\nexec nsenter {spaces} --preserve-credentials {shutil.which("passt")} "$@"\n'
        )
        self.passt.chmod(0o755)

    def socket(self, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        """A socket out there."""
        self._line.send(str(int(kind)).encode())
        _, (fd,), _, _ = socket.recv_fds(self._line, 16, 1)
        made = socket.socket(fileno=fd)
        made.settimeout(20)
        return made

    def connect(self, port: int) -> socket.socket:
        """A connection to a port of the host's loopback."""
        made = self.socket()
        made.connect(("127.0.0.1", port))
        return made

    def close(self) -> None:
        """Be gone."""
        self._line.close()
        self._holder.communicate()


class Server:
    """A server of `socketserver` on a thread of its own, on a socket that somebody else made."""

    def __init__(self, server: socketserver.BaseServer, own: socket.socket, address: tuple[str, int]) -> None:
        server.socket.close()  # type: ignore[attr-defined]
        own.settimeout(None)
        own.bind(address)
        if own.type == socket.SOCK_STREAM:
            own.listen(16)
        server.socket = own  # type: ignore[attr-defined]
        self.port = own.getsockname()[1]
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Files(socketserver.ThreadingTCPServer):
    daemon_threads = True
    files: Mapping[str, bytes]


class _FileRequest(BaseHTTPRequestHandler):
    server: _Files

    def do_GET(self) -> None:
        body = self.server.files.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def serve_files(own: socket.socket, files: Mapping[str, bytes], address: tuple[str, int]) -> Server:
    """An HTTP server: ``files`` by path."""
    server = _Files(address, _FileRequest, bind_and_activate=False)
    server.files = files
    return Server(server, own, address)


class _Names(socketserver.UDPServer):
    names: Mapping[str, str]


class _NameRequest(socketserver.BaseRequestHandler):
    server: _Names

    def handle(self) -> None:
        query, reply = self.request
        end = query.index(b"\0", 12)
        labels, at = [], 12
        while at < end:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        address = self.server.names.get(".".join(labels))
        wanted = address if query[end + 1 : end + 3] == b"\0\1" else None
        status = 0x8180 if address is not None else 0x8183
        answer = query[:2] + struct.pack("!5H", status, 1, wanted is not None, 0, 0) + query[12 : end + 5]
        if wanted is not None:
            answer += b"\xc0\x0c\0\1\0\1" + struct.pack("!IH", 60, 4) + socket.inet_aton(wanted)
        reply.sendto(answer, self.client_address)


def serve_names(own: socket.socket, names: Mapping[str, str], address: tuple[str, int]) -> Server:
    """A resolver: the addresses of ``names``, and that there are no others."""
    server = _Names(address, _NameRequest, bind_and_activate=False)
    server.names = names
    return Server(server, own, address)


@dataclass(frozen=True)
class Nic:
    """A NIC behind a vhost-user socket, in QEMU.

    ``options`` are more properties of the card, each after a comma. ``rom``: with its boot ROM.
    """

    socket: str
    pairs: int = 1
    mac: str = "52:54:00:12:34:56"
    rom: bool = False
    options: str = ""
    modules: ClassVar[tuple[str, ...]] = ("virtio_net",)
    in_uml: ClassVar[bool] = False

    def qemu(self, index: int, reconnect_option: str) -> list[str]:
        """A chardev, the back-end on it, and the card on that."""
        # QEMU 7.2 crashes without KVM when a vhost-user NIC of anybody's uses MSI-X: no vectors.
        card = f"virtio-net-pci,netdev=net{index},mac={self.mac},vectors=0"
        card += (",mq=on" if self.pairs > 1 else "") + ("" if self.rom else ",romfile=") + self.options
        netdev = f"vhost-user,id=net{index},chardev=c{index},queues={self.pairs}"
        return ["-chardev", f"socket,id=c{index},path={self.socket}", "-netdev", netdev, "-device", card]

    def uml(self, socket: str) -> str:
        """Not used."""
        raise NotImplementedError
