"""A file system from its making to the host's own look at it, over every shape of rings and registers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from virtio import vm
from virtio.demo import readback
from virtio.spec import features as bits
from virtio.vm.choice import Kind

pytestmark = pytest.mark.guest

WRITE = """
set -e
mkdir -p /mnt/tree
seq 1 200000 >/mnt/numbers
dd if=/dev/urandom of=/mnt/direct bs=1M count=16 oflag=direct 2>/dev/null
for n in 1 2 3 4; do dd if=/dev/urandom of=/mnt/parallel$n bs=64k count=64 2>/dev/null & done
for n in $(seq 1 100); do echo "file $n" >/mnt/tree/$n; done
wait
sync
"""
SUMS = "cd /mnt && find . -type f ! -path './lost+found*' -exec sha256sum {} + | sort -k2"


@dataclass(frozen=True)
class Shape:
    """How the disk is shown to the guest."""

    kind: Kind = "qemu"
    generation: str = "transitional"
    packed: bool = False
    queues: int = 1

    def __str__(self) -> str:
        ring = "packed" if self.packed else "split"
        return self.kind if self.kind == "uml" else f"{self.generation}-{ring}-{self.queues}"

    def disk(self, socket: str) -> vm.Blk:
        if self.kind == "uml":
            return vm.Blk(socket)
        options: dict[str, Any] = {"generation": self.generation, "packed": self.packed}
        return vm.Blk(socket, num_queues=self.queues, **options)


SHAPES = [
    Shape(kind="uml"),
    Shape(generation="modern"),
    Shape(generation="modern", packed=True),
    Shape(generation="legacy"),
    Shape(queues=4),
    Shape(generation="modern", packed=True, queues=4),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_file_system(shape: Shape, serve_disk: Any, boot: Any, tmp_path: Path) -> None:
    with serve_disk(96 << 20, num_queues=shape.queues) as service:
        options = {} if shape.kind == "uml" else {"cpus": shape.queues}
        with boot(
            shape.kind, [shape.disk(service.socket)], files=["mkfs.ext4", "e2fsck"], **options
        ) as guest:
            check_shape(guest, shape)
            guest.run("mkfs.ext4 -q /dev/vda && mount /dev/vda /mnt", check=True)
            guest.run(WRITE, check=True)
            sums = readback.parse_sums(guest.run(SUMS, check=True).stdout)
            guest.run("umount /mnt && e2fsck -fn /dev/vda", check=True)
            guest.run("mount -o ro /dev/vda /mnt", check=True)
            assert readback.parse_sums(guest.run(SUMS, check=True).stdout) == sums
            guest.run("umount /mnt", check=True)
        assert service.reports == []
        assert len(sums) == 106
        assert readback.checksums(readback.require_debugfs(), service.image, tmp_path / "back") == sums


def check_shape(guest: vm.Guest, shape: Shape) -> None:
    """That the guest really uses what it was shown."""
    features = guest.run("cat /sys/block/vda/device/features", check=True).stdout
    modern = features[bits.VERSION_1] == "1"
    assert modern is (shape.generation != "legacy")
    if shape.kind == "qemu":
        assert (features[bits.RING_PACKED] == "1") is shape.packed
    queues = guest.run("ls /sys/block/vda/mq", check=True).stdout.split()
    assert queues == [str(n) for n in range(shape.queues)]


@pytest.mark.parametrize("packed", [False, True])
def test_a_queue_shorter_than_the_guests_requests(packed: bool, serve_disk: Any, boot: Any) -> None:
    """Linux goes by ``seg_max`` and not by the queue's size, and fills longer indirect tables."""
    with serve_disk() as service:
        with boot("qemu", [vm.Blk(service.socket, queue_size=32, packed=packed)]) as guest:
            assert int(guest.run("cat /sys/block/vda/queue/max_segments", check=True).stdout) > 32
            guest.run("yes content | dd of=/dev/vda bs=1M count=32 iflag=fullblock && sync", check=True)
        assert service.reports == []
        assert service.image.read_bytes()[: 32 << 20] == b"content\n" * (4 << 20)


@pytest.mark.parametrize("kind", ["uml", "qemu"])
def test_blocks_of_4096_bytes_written_through(kind: Kind, serve_disk: Any, boot: Any, tmp_path: Path) -> None:
    with serve_disk(logical_block_size=4096, cache="writethrough", serial="pyvirtio-7") as service:
        with boot(kind, [vm.Blk(service.socket)], files=["mkfs.ext4"]) as guest:
            queue = guest.run(
                "cd /sys/block/vda; cat queue/logical_block_size queue/write_cache serial", check=True
            )
            assert queue.stdout.split("\n")[:2] == ["4096", "write through"]
            assert queue.stdout.split("\n")[2].strip("\0") == "pyvirtio-7"
            guest.run("mkfs.ext4 -q /dev/vda && mount /dev/vda /mnt && seq 1 9999 >/mnt/n", check=True)
            sums = readback.parse_sums(guest.run(SUMS, check=True).stdout)
            guest.run("umount /mnt", check=True)
        assert service.reports == []
        assert readback.checksums(readback.require_debugfs(), service.image, tmp_path / "back") == sums
