"""Copies from and to a mapping: only where they cannot wait, never wrong, and gone when something happens."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtio import storage
from virtio.storage import mapped_backend, residence
from virtio.storage.file_backend import DirectBackend, FileBackend
from virtio.storage.mapped_backend import MappedBackend

MIB = 1 << 20
CHUNK = 512 << 10
PAGE = 4096
libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    place = "/dev/shm" if request.param == "memory" else "/var/tmp"
    with tempfile.TemporaryDirectory(prefix="virtio-test-", dir=place) as path:
        with open(f"{path}/probe", "wb+") as probe:
            if not residence.mappable(probe.fileno()):
                pytest.skip(f"files in {place} are not mapped")
        yield Path(path)


@pytest.fixture
def image(folder: Path) -> Path:
    path = folder / "disk.img"
    path.write_bytes(random.Random(1).randbytes(4 * MIB))
    return path


def mapped(disk: storage.FileStorage) -> MappedBackend:
    assert isinstance(disk.backend, MappedBackend)
    return disk.backend


def read(backend: FileBackend, offset: int, length: int = PAGE) -> bytes:
    """As the engine does: at once if possible, else and what remains by the way that takes its time."""
    data = memoryview(bytearray(length))
    try:
        done = backend.attempt_read_into(offset, data)
    except BlockingIOError:
        done = 0
    backend.read_into(offset + done, data[done:])
    return bytes(data)


def write(backend: FileBackend, offset: int, data: bytes) -> None:
    try:
        done = backend.attempt_write_from(offset, data)
    except BlockingIOError:
        done = 0
    backend.write_from(offset + done, memoryview(data)[done:])


def copies(backend: MappedBackend) -> tuple[int, int]:
    stats = backend.stats()
    return stats["reads"], stats["writes"]


def warm(backend: MappedBackend, offset: int = 0, length: int = 4 * MIB, *, writing: bool = False) -> None:
    """Use a range until it is read, and written, through the mapping; what it holds stays."""
    for position in range(offset, offset + length, CHUNK):
        size = min(CHUNK, offset + length - position)
        for _ in range(3):
            data = read(backend, position, size)
            if writing:
                write(backend, position, data)


def another(code: str, path: Path) -> subprocess.Popen[bytes]:
    """A process of its own that does something to the file ``path``, open as ``fd``."""
    head = f"import os, sys, time\nfd = os.open({str(path)!r}, os.O_RDWR)\n"
    return subprocess.Popen([sys.executable, "-c", head + code], stdout=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0, out


def addresses(path: Path) -> list[tuple[int, int]]:
    """Where the file is mapped in this process."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(str(path)):
            start, end = line.split()[0].split("-")
            found.append((int(start, 16), int(end, 16) - int(start, 16)))
    return found


def page_out(path: Path, length: int) -> None:
    """Evict the file's pages, though they are mapped."""
    ((start, _),) = addresses(path)
    os.sync()
    assert libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), 21) == 0


def test_reads_are_copies_once_the_pages_are_known(image: Path) -> None:
    data = image.read_bytes()
    with storage.FileStorage(image) as disk:
        backend = mapped(disk)
        assert read(backend, PAGE) == data[PAGE : 2 * PAGE]
        assert copies(backend) == (0, 0)
        for offset in (0, 512, CHUNK - PAGE, 1024):
            assert read(backend, offset) == data[offset : offset + PAGE]
        assert copies(backend) == (4, 0)
        # Over the border to a chunk that nothing is known of, then once more.
        assert read(backend, CHUNK - 512) == data[CHUNK - 512 : CHUNK - 512 + PAGE]
        assert copies(backend) == (4, 0)
        assert read(backend, CHUNK - 512) == data[CHUNK - 512 : CHUNK - 512 + PAGE]
        assert copies(backend) == (5, 0)
        warm(backend)
        assert read(backend, 512, 3 * MIB) == data[512 : 512 + 3 * MIB]


def test_writes_are_copies_where_they_are_many(image: Path) -> None:
    oracle = bytearray(image.read_bytes())
    rng = random.Random(2)
    with storage.FileStorage(image) as disk:
        backend = mapped(disk)
        for _ in range(3000):
            offset = rng.randrange(4 * MIB // 512 - 16) * 512
            data = rng.randbytes(rng.randrange(1, 16) * 512)
            write(backend, offset, data)
            oracle[offset : offset + len(data)] = data
        assert copies(backend)[1] > 1000
        assert image.read_bytes() == oracle
        assert read(backend, 0, MIB) == oracle[:MIB]
    assert image.read_bytes() == oracle


def test_a_few_writes_are_system_calls(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(b"x" * 4 * MIB)
    with storage.FileStorage(path) as disk:
        backend = mapped(disk)
        for _ in range(10):
            warm(backend, 0, CHUNK)
            for page in range(8):
                write(backend, page * PAGE, b"y" * PAGE)
            disk.flush()  # each begins to count anew
        assert copies(backend)[1] == 0


class Cachestat(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("cache", "dirty", "writeback", "evicted", "recent"))


def dirty_pages(fd: int) -> int:
    span, found = (ctypes.c_uint64 * 2)(0, 0), Cachestat()
    if libc.syscall(451, fd, span, ctypes.byref(found), 0) != 0:
        assert ctypes.get_errno() == errno.ENOSYS
        pytest.skip("a kernel without cachestat")
    return int(found.dirty + found.writeback)


def test_large_writes_are_copies_once_written_before(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(b"x" * 2 * MIB)
    size = 128 << 10
    with storage.FileStorage(path) as disk:
        backend = mapped(disk)
        for data, made in ((b"1", 0), (b"2", 16), (b"3", 32)):
            for offset in range(0, 2 * MIB, size):
                write(backend, offset, data * size)
            assert copies(backend)[1] == made
            assert path.read_bytes() == data * 2 * MIB


def test_a_flush_covers_what_was_copied(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(b"x" * 4 * MIB)
    with storage.FileStorage(path) as disk:
        backend = mapped(disk)
        warm(backend, 0, 2 * MIB, writing=True)
        os.fsync(disk.fd)  # not through the backend, which goes on with copies
        for generation in range(3):
            assert dirty_pages(disk.fd) == 0
            before = copies(backend)[1]
            for page in range(0, 2 * MIB, 5 * PAGE):
                write(backend, page, bytes([generation]) * PAGE)
            assert copies(backend)[1] > before + 50
            assert dirty_pages(disk.fd) > 0
            if generation == 2:
                disk.flush()
            else:
                os.fdatasync(disk.fd)
        assert dirty_pages(disk.fd) == 0


def test_a_hole_is_filled_by_system_calls(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(b"x" * 2 * MIB)
    with storage.FileStorage(path) as disk:
        backend = mapped(disk)
        os.sync()
        disk.discard(37 * PAGE, PAGE)
        read(backend, 0, CHUNK)  # the hole has a page from now on, though no block
        for _ in range(5):
            for page in range(CHUNK // PAGE):
                read(backend, page * PAGE)
                if page != 37:
                    write(backend, page * PAGE, b"y" * PAGE)
        assert copies(backend)[0] > 100
        assert copies(backend)[1] == 0
        write(backend, 37 * PAGE, b"z" * PAGE)
        warm(backend, 0, CHUNK, writing=True)
        assert copies(backend)[1] > 0
        assert read(backend, 36 * PAGE, 3 * PAGE) == b"y" * PAGE + b"z" * PAGE + b"y" * PAGE


@pytest.mark.parametrize("way", ["discard", "zero", "unmap"])
def test_what_was_discarded_is_asked_about_again(image: Path, way: str) -> None:
    data = image.read_bytes()
    with storage.FileStorage(image) as disk:
        backend = mapped(disk)
        warm(backend, writing=True)
        before = copies(backend)
        if way == "discard":
            disk.discard(MIB, MIB)
        else:
            disk.write_zeroes(MIB, MIB, unmap=way == "unmap")
        assert read(backend, MIB, MIB) == bytes(MIB)
        write(backend, MIB, b"q" * PAGE)
        assert copies(backend) == before
        assert read(backend, MIB - PAGE, 3 * PAGE) == data[MIB - PAGE : MIB] + b"q" * PAGE + bytes(PAGE)
        assert read(backend, 2 * MIB, MIB) == data[2 * MIB : 3 * MIB]


def test_evicted_pages_are_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    data = random.Random(3).randbytes(4 * MIB)
    path.write_bytes(data)
    with storage.FileStorage(path) as disk:
        backend = mapped(disk)
        warm(backend)
        page_out(path, 4 * MIB)
        time.sleep(0.6)  # until what was known is out of date
        before = copies(backend)
        faults = resource.getrusage(resource.RUSAGE_THREAD).ru_majflt
        for offset in range(0, 4 * MIB, CHUNK):
            assert read(backend, offset) == data[offset : offset + PAGE]
        assert copies(backend) == before
        assert backend.stats()["denied"] >= 8
        assert resource.getrusage(resource.RUSAGE_THREAD).ru_majflt == faults


def test_major_faults_end_all_proofs(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    data = random.Random(4).randbytes(64 * MIB)
    path.write_bytes(data)
    with storage.FileStorage(path) as disk:
        backend = mapped(disk)
        before = backend.stats()["forgotten"]
        for _ in range(20):  # on a busy machine the proofs may run out before they are shown wrong
            warm(backend, 0, 64 * MIB)
            page_out(path, 64 * MIB)
            for offset in range(0, 64 * MIB, CHUNK // 2):
                assert read(backend, offset) == data[offset : offset + PAGE]
            if backend.stats()["forgotten"] > before:
                return
        raise AssertionError("no major fault ended a proof")


def test_a_file_cut_off_by_others(image: Path) -> None:
    data = image.read_bytes()
    with storage.FileStorage(image, lock=False) as disk:
        backend = mapped(disk)
        warm(backend, writing=True)
        os.truncate(image, MIB)
        with pytest.raises(OSError, match="Input/output error"):
            read(backend, 2 * MIB)
        assert backend.stats()["repairs"] <= 1
        with open(image, "r+b") as file:
            file.seek(MIB)
            file.write(data[MIB:])
        assert read(backend, 2 * MIB, MIB) == data[2 * MIB : 3 * MIB]
        time.sleep(0.6)  # until the new size is noticed
        warm(backend)
        before = copies(backend)
        assert read(backend, 0, 4 * MIB) == data
        assert copies(backend)[0] == before[0] + 1
        ((_, length),) = addresses(image)  # nothing of the guard's is left in it
        assert length == backend.mapped


SHRINK_AND_GROW = """
data = os.pread(fd, 1 << 22, 0)
print(flush=True)
end = time.monotonic() + 1
while time.monotonic() < end:
    os.ftruncate(fd, 1 << 20)
    time.sleep(0.003)
    os.pwrite(fd, data[1 << 20:], 1 << 20)
    time.sleep(0.03)
"""


def test_reads_while_others_shrink_and_grow_the_file(image: Path) -> None:
    """What is read is the file's, or an error: never zeroes that the guard put there."""
    data = image.read_bytes()
    rng = random.Random(5)
    done = failed = 0
    with storage.FileStorage(image, lock=False) as disk:
        backend = mapped(disk)
        process = another(SHRINK_AND_GROW, image)
        assert process.stdout is not None
        process.stdout.readline()
        while process.poll() is None:
            offset = rng.randrange(4 * MIB // PAGE) * PAGE
            try:
                assert read(backend, offset) == data[offset : offset + PAGE]
                done += 1
            except OSError as error:
                assert error.errno == errno.EIO  # noqa: PT017 -- one that may come or not
                assert offset >= MIB
                failed += 1
        finish(process)
        assert min(done, failed, copies(backend)[0], backend.stats()["repairs"]) > 0
        warm(backend)
        assert read(backend, 0, 4 * MIB) == data


def test_writes_while_others_shrink_and_grow_the_file(image: Path) -> None:
    rng = random.Random(6)
    with storage.FileStorage(image, lock=False) as disk:
        backend = mapped(disk)
        warm(backend, writing=True)
        process = another(SHRINK_AND_GROW, image)
        assert process.stdout is not None
        process.stdout.readline()
        while process.poll() is None:
            write(backend, rng.randrange(4 * MIB // PAGE) * PAGE, b"w" * PAGE)
        finish(process)
        oracle = random.Random(7).randbytes(4 * MIB)
        for _ in range(3):
            for offset in range(0, 4 * MIB, CHUNK):
                write(backend, offset, oracle[offset : offset + CHUNK])
        warm(backend)
        assert read(backend, 0, 4 * MIB) == image.read_bytes() == oracle
        assert copies(backend)[1] > 0


def test_dropping_the_page_cache_from_outside(image: Path) -> None:
    """A process that writes back and drops pages all the time loses nothing."""
    evict = (
        "end = time.monotonic() + 1\n"
        "while time.monotonic() < end:\n"
        "    os.fdatasync(fd); os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)\n"
    )
    oracle = bytearray(image.read_bytes())
    rng = random.Random(8)
    with storage.FileStorage(image, lock=False) as disk:
        backend = mapped(disk)
        process = another(evict, image)
        while process.poll() is None:
            for _ in range(100):
                offset, length = rng.randrange(4 * MIB // 512 - 64) * 512, rng.randrange(1, 64) * 512
                if rng.random() < 0.5:
                    oracle[offset : offset + length] = data = rng.randbytes(length)
                    write(backend, offset, data)
                else:
                    assert read(backend, offset, length) == oracle[offset : offset + length]
        finish(process)
        assert min(copies(backend)) > 0
    assert image.read_bytes() == oracle


@pytest.fixture(params=["tmpfs", "ext4"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system that is soon full."""
    place, device = tmp_path / "small", tmp_path / "small.fs"
    place.mkdir()
    if request.param == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", place]
    else:
        with open(device, "wb") as file:
            file.truncate(16 * MIB)
        command = ["mount", "-o", "loop", device, place]
        if subprocess.run(["mkfs.ext4", "-q", "-m0", device], capture_output=True).returncode != 0:
            pytest.skip("no mkfs.ext4")
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("may not mount")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(place: Path) -> None:
    with open(place / "rest", "ab") as file:
        size = MIB
        while size >= PAGE:
            try:
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017
                size //= 2


def test_a_full_disk_is_an_error_at_once(small: Path) -> None:
    """A page that was allocated when it was proven, punched out by others, with no space left."""
    path = small / "disk.img"
    path.write_bytes(b"x" * 2 * MIB)
    with storage.FileStorage(path, lock=False) as disk:
        backend = mapped(disk)
        os.fsync(disk.fd)
        fill(small)
        warm(backend, 0, 2 * MIB, writing=True)
        os.fsync(disk.fd)
        time.sleep(0.6)
        for punched in (MIB, MIB + CHUNK):  # again, if filling took longer than a proof lasts
            warm(backend, 0, 2 * MIB)  # a fresh proof
            assert libc.fallocate(disk.fd, 3, ctypes.c_long(punched), ctypes.c_long(CHUNK)) == 0
            fill(small)
            before = backend.stats()
            failed = 0
            for page in range(punched, punched + CHUNK, PAGE):
                try:
                    write(backend, page, b"y" * PAGE)
                except OSError as error:
                    assert error.errno == errno.ENOSPC  # noqa: PT017
                    failed += 1
            assert failed > 100
            if backend.stats()["writes"] > before["writes"]:
                break
        assert backend.stats()["writes"] > before["writes"]
        assert backend.stats()["repairs"] == before["repairs"] + 1
        (small / "rest").unlink()
        write(backend, MIB, b"y" * PAGE)
        assert read(backend, MIB) == b"y" * PAGE
        assert read(backend, 0, MIB) == b"x" * MIB


def test_growing_and_shrinking(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped_backend, "ROOM", 1 << 20)
    data = image.read_bytes()
    with storage.FileStorage(image) as disk:
        backend = mapped(disk)
        assert backend.mapped == 8 * MIB
        warm(backend)
        for size in (6 * MIB, 20 * MIB, 8 * MIB + 512, 4 * MIB):
            disk.resize(size)
            assert backend.mapped >= size
            last = (size - 1) // CHUNK * CHUNK
            write(backend, last, b"l" * (size - last))
            before = copies(backend)
            for _ in range(3):
                assert read(backend, last, size - last) == b"l" * (size - last)
            assert copies(backend)[0] > before[0]
            assert read(backend, 0, 3 * MIB) == data[: 3 * MIB]
            assert image.stat().st_size == size


def test_closing_lets_go_of_the_file(image: Path) -> None:
    disk = storage.FileStorage(image)
    warm(mapped(disk))
    assert addresses(image)
    disk.close()
    assert not addresses(image)
    with storage.FileStorage(image):
        pass


def test_a_file_that_is_only_read(image: Path) -> None:
    data = image.read_bytes()
    with storage.FileStorage(image, read_only=True) as disk:
        backend = mapped(disk)
        warm(backend)
        assert read(backend, MIB) == data[MIB : MIB + PAGE]
        assert copies(backend)[0] > 0
        with pytest.raises(OSError, match="Bad file descriptor"):
            backend.attempt_write_from(0, b"x" * 512)


def test_map_off(image: Path) -> None:
    with storage.open_storage(f"file:{image}?map=off") as disk:
        assert type(disk.backend) is FileBackend
        assert read(disk.backend, PAGE) == image.read_bytes()[PAGE : 2 * PAGE]
    with storage.open_storage(f"file:{image}?map=on") as disk:
        assert type(disk.backend) is MappedBackend


def test_direct_is_not_mapped(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(MIB))
    with storage.FileStorage(path, direct=True) as disk:
        assert type(disk.backend) is DirectBackend


def test_file_systems_that_are_not_known() -> None:
    with open("/proc/version", "rb") as file:
        assert not residence.mappable(file.fileno())


AS_NOBODY = """
import os, sys
from virtio.storage import residence
os.setgid(65534); os.setuid(65534)
print(residence.mappable(int(sys.argv[1])))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="drops root's rights")
@pytest.mark.parametrize(("mode", "known"), [(0o644, False), (0o666, True)])
def test_who_is_not_told_what_is_resident(image: Path, mode: int, known: bool) -> None:
    image.chmod(mode)
    image.parent.chmod(0o755)
    with open(image, "rb") as file:
        command = [sys.executable, "-c", AS_NOBODY, str(file.fileno())]
        ran = subprocess.run(command, pass_fds=[file.fileno()], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == str(known)


def test_no_address_space(
    image: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mapped_backend, "ROOM", 1 << 50)
    with storage.FileStorage(image) as disk:
        assert type(disk.backend) is FileBackend
        assert read(disk.backend, 0) == image.read_bytes()[:PAGE]
    assert "is not mapped" in caplog.text


assert mmap.PAGESIZE == PAGE
