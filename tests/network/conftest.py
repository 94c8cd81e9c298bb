"""Network namespaces that are gone with the test, and links that are closed after it."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest

from virtio.network import Link, open_link

Opener = Callable[[str], Link]


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens links."""
    links: list[Link] = []

    def opener(url: str) -> Link:
        links.append(open_link(url))
        return links[-1]

    yield opener
    for link in links:
        link.disconnect()
        link.close()


class Namespace:
    """A network namespace, held by a process that does nothing else."""

    def __init__(self) -> None:
        self.holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo ready; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.holder.stdout is not None
        assert self.holder.stdout.readline() == b"ready\n"
        self.path = f"/proc/{self.holder.pid}/ns/net"

    def run(self, command: str) -> str:
        """The output of a command in the namespace."""
        words = ["nsenter", f"--net={self.path}", *command.split()]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    def close(self) -> None:
        self.holder.communicate()


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    if os.geteuid() != 0:
        pytest.skip("making a network namespace takes root")
    if not os.path.exists("/dev/net/tun") or not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        pytest.skip("needs /dev/net/tun, unshare, nsenter and ip")
    made = Namespace()
    yield made
    made.close()
