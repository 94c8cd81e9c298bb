from __future__ import annotations

from pathlib import Path

import pytest

from virtio import storage
from virtio.errors import StorageSizeError, StorageUrlError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512),
        ("64k", 65536),
        ("64K", 65536),
        ("512M", 512 << 20),
        ("1G", 1 << 30),
        ("2GiB", 2 << 30),
        ("3t", 3 << 40),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert storage.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "1.5G", "1X", "one", "0x200"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(StorageUrlError, match="size"):
        storage.parse_size(text)


def test_memory_and_null_by_url() -> None:
    with storage.open_storage("mem:1M") as memory, storage.open_storage("null:1T") as null:
        assert isinstance(memory, storage.MemoryStorage)
        assert memory.size == 1 << 20
        assert isinstance(null, storage.NullStorage)
        assert null.size == 1 << 40


def test_too_small() -> None:
    with pytest.raises(StorageSizeError, match="less than a sector"):
        storage.open_storage("mem:100")


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    image = tmp_path / "mem:odd?name=%41"
    image.write_bytes(bytes(4096))
    with storage.open_storage(image) as disk:
        assert disk.size == 4096


def test_a_file_named_like_an_unknown_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("disk:1").write_bytes(bytes(512))
    with storage.open_storage("disk:1") as disk:
        assert disk.size == 512


@pytest.mark.parametrize("prefix", ["file:", "file://"])
def test_file_url_with_options(tmp_path: Path, prefix: str) -> None:
    image = tmp_path / "a b?.img"
    image.write_bytes(bytes(4096))
    path = str(image).replace(" ", "%20").replace("?", "%3f")
    with storage.open_storage(f"{prefix}{path}?read-only=on&lock=off") as disk:
        assert disk.read_only
        with pytest.raises(PermissionError):
            disk.write(0, memoryview(bytes(512)))


def test_relative_file_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.img").write_bytes(bytes(512))
    with storage.open_storage("file:x.img?read_only") as disk:
        assert disk.read_only


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp:x", "unknown scheme 'ftp'"),
        ("file:x?colour=red", "unknown option 'colour'"),
        ("mem:1M?direct=on", "unknown option 'direct'"),
        ("file:x?direct=maybe", "on or off"),
        ("file:x?read-only=2", "on or off"),
        ("mem:", "not a size"),
    ],
)
def test_nonsense_is_refused(url: str, says: str) -> None:
    with pytest.raises(StorageUrlError, match=says):
        storage.open_storage(url)


def test_unknown_cache_mode() -> None:
    with pytest.raises(StorageUrlError, match="unsafe"):
        storage.open_storage("mem:1M", cache="unsafe")


def test_a_registered_filter_opens_what_stands_behind_it() -> None:
    def half(location: storage.Location) -> storage.Storage:
        inner = storage.open_storage(location.rest, read_only=location.read_only)
        inner.resize(inner.size // int(location.options["by"]))
        return inner

    storage.register("test-half", half)
    assert "test-half" in storage.schemes()
    with storage.open_storage("test-half:mem:1M?by=4") as disk:
        assert disk.size == 256 << 10


def test_a_scheme_must_look_like_one() -> None:
    with pytest.raises(StorageUrlError):
        storage.register("No Scheme", lambda location: storage.NullStorage(512))
