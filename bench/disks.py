"""The files that are served: where each is, and the state it is in when a run begins."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from residence import PAGE, Resident, drop, make_file, settle
from workloads import FILE, NULL, SPARE, TMPFS, Workload

IN_MEMORY = Path("/dev/shm")


class Disks:
    """Made when first asked for, gone at the end.

    The hot ones (FILE, TMPFS) are locked into memory by this process for as long as it lives, where its
    limits allow that. SPARE is another file, for what must not be in the page cache.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.size = size
        self._folders = {FILE: folder.resolve(), SPARE: folder.resolve(), TMPFS: IN_MEMORY}
        self._paths: dict[str, Path] = {}
        self._resident: dict[str, Resident] = {}
        self.lost_pages = 0

    def path(self, kind: str) -> Path:
        """The file, made if there is none yet."""
        if kind not in self._paths:
            path = self._folders[kind] / f"virtio-bench-{os.getpid()}-{kind}.img"
            self._paths[kind] = path
            make_file(path, self.size)
            if kind != SPARE:
                self._resident[kind] = Resident(path)
        return self._paths[kind]

    def begin(self, workload: Workload) -> Path | None:
        """Bring the file into the state that the workload begins with; None if it has none."""
        if workload.disk == NULL:
            return None
        path = self.path(workload.disk)
        if workload.hot:
            self._resident[workload.disk].ensure()
        else:
            drop(path)
        return path

    def end(self, workload: Workload) -> int:
        """Write back what the workload left; how many pages a hot file has lost meanwhile."""
        if workload.disk == NULL:
            return 0
        if workload.writes:
            settle(self.path(workload.disk))
        if not workload.hot:
            return 0
        lost = self._resident[workload.disk].missing()
        self.lost_pages += lost
        return lost

    @property
    def state(self) -> str:
        """How the hot files were kept hot, in words."""
        if not self._resident:
            return "no hot file"
        held = all(each.held for each in self._resident.values())
        how = "locked into memory" if held else "read before each run (mlock was refused)"
        lost = (
            f"{self.lost_pages} pages of {PAGE} bytes were lost during runs"
            if self.lost_pages
            else "none lost"
        )
        return f"{self.size >> 20} MiB, {how}; {lost}"

    def close(self) -> None:
        """Remove the files. Idempotent."""
        for resident in self._resident.values():
            resident.close()
        for path in self._paths.values():
            path.unlink(missing_ok=True)
        self._resident.clear()
        self._paths.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
