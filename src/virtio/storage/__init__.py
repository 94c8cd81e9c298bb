"""What a disk is made of: files, block devices, memory, or anything written in Python.

>>> with open_storage("mem:64k") as disk:
...     disk.write(512, memoryview(b"hello"))
...     data = bytearray(5)
...     disk.read(512, memoryview(data))
...     disk.size, bytes(data)
(65536, b'hello')
"""

from virtio.errors import StorageUrlError
from virtio.storage.base import Storage
from virtio.storage.file import FileStorage
from virtio.storage.memory import MemoryStorage
from virtio.storage.null import NullStorage
from virtio.storage.url import Location, open_storage, parse_size, register, schemes

__all__ = [
    "FileStorage",
    "Location",
    "MemoryStorage",
    "NullStorage",
    "Storage",
    "open_storage",
    "parse_size",
    "register",
    "schemes",
]


def _open_file(location: Location) -> Storage:
    location.only("direct", "read-only", "lock", "format", "map")
    if location.options.get("format", "raw") != "raw":
        raise StorageUrlError(f"{location.url}: format is raw, or left out to have others refused")
    path = location.rest
    if path.startswith("///") and location.url.startswith("file:"):
        path = path[2:]
    return FileStorage(
        path,
        read_only=location.read_only,
        direct=location.flag("direct", default=location.cache == "none"),
        lock=location.flag("lock", default=True),
        map=location.flag("map", default=True),
        any_format="format" in location.options,
    )


def _open_memory(location: Location) -> Storage:
    location.only("read-only")
    return MemoryStorage(parse_size(location.rest), read_only=location.read_only, name=location.url)


def _open_null(location: Location) -> Storage:
    location.only("read-only")
    return NullStorage(parse_size(location.rest), read_only=location.read_only, name=location.url)


register("file", _open_file)
register("mem", _open_memory)
register("null", _open_null)
