"""A file system on a medium whose power can be cut: ext4 on a loop device.

What the loop device was given is in its file; what the kernel still holds in memory is not. A copy of that
file is therefore what a power cut would leave: the copy's journal is replayed when it is mounted. No
request of the loop device may come while the copy is made, or else the copy would be of no single moment; its
counters tell.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from virtio.errors import HostError

__all__ = ["Medium", "medium"]

SIZE = 32 << 20  # bytes
TRIES = 50
WRITES, IN_FLIGHT, DISCARDS = 4, 8, 11  # fields of /sys/block/*/stat


class Medium:
    """``folder`` is where the file system is mounted."""

    def __init__(self, image: Path, device: str, folder: Path) -> None:
        self.folder = folder
        self._image = image
        self._counters = Path("/sys/block") / Path(device).name / "stat"

    @contextmanager
    def after_power_cut(self) -> Iterator[Path]:
        """The same folder as it would be found after a power cut now."""
        copy, folder = self._image.with_name("after.img"), self._image.with_name("after")
        folder.mkdir()
        self._copy(copy)
        _run("mount", "-o", "loop", str(copy), str(folder))
        try:
            yield folder
        finally:
            _run("umount", str(folder))
            folder.rmdir()
            copy.unlink()

    def _copy(self, copy: Path) -> None:
        for _ in range(TRIES):
            before = self._written()
            if before is not None:
                shutil.copyfile(self._image, copy)
                if self._written() == before:
                    return
            time.sleep(0.01)
        raise HostError(f"something writes to {self.folder} all the time: no moment can be held")

    def _written(self) -> tuple[int, int] | None:
        """Requests that have changed it so far; None while any is in flight."""
        fields = [int(text) for text in self._counters.read_text().split()]
        if fields[IN_FLIGHT]:
            return None
        return fields[WRITES], fields[DISCARDS]


@contextmanager
def medium(directory: Path) -> Iterator[Medium]:
    """Make one, with its file in ``directory``. HostError without root, loop devices or ext4."""
    if os.geteuid() != 0:
        raise HostError("a power cut is tried on a file system of its own, which only root may mount")
    image, folder = directory / "medium.img", directory / "medium"
    with ExitStack() as stack:
        with image.open("xb") as file:
            file.truncate(SIZE)
        stack.callback(image.unlink)
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
        device = _run("losetup", "--find", "--show", str(image)).strip()
        stack.callback(_run, "losetup", "--detach", device)
        folder.mkdir()
        stack.callback(folder.rmdir)
        # The journal is committed when that is asked for, hardly ever by itself.
        _run("mount", "-o", "commit=300", device, str(folder))
        stack.callback(_run, "umount", str(folder))
        yield Medium(image, device, folder)


def _run(*command: str) -> str:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise HostError(f"{command[0]} cannot be run: {error.strerror}") from error
    if ran.returncode != 0:
        raise HostError(f"{command[0]} failed: {ran.stderr.strip() or ran.returncode}")
    return ran.stdout
