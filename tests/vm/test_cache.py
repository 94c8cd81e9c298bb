from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from virtio.vm import cache


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "pyvirtio"


def test_a_file_is_made_once(home: Path) -> None:
    made: list[int] = []

    def write(stream: BinaryIO) -> None:
        made.append(1)
        stream.write(b"content")

    paths = {cache.cached_file("name", write) for _ in range(3)}
    assert paths == {home / "name"}
    assert made == [1]
    assert (home / "name").read_bytes() == b"content"


def test_writers_at_the_same_time_do_not_meet(home: Path) -> None:
    content = os.urandom(1 << 16)

    def write(stream: BinaryIO) -> None:
        for at in range(0, len(content), 4096):
            stream.write(content[at : at + 4096])
            stream.flush()
            time.sleep(0.001)

    seen: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: seen.append(cache.cached_file("same", write).read_bytes()))
        for _ in range(8)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [content] * 8
    assert os.listdir(home) == ["same"]


def test_a_failed_writer_leaves_nothing(home: Path) -> None:
    def write(stream: BinaryIO) -> None:
        stream.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cache.cached_file("name", write)
    assert os.listdir(home) == []


def test_the_unused_go_when_something_new_comes(home: Path) -> None:
    old, fresh = (cache.cached_file(name, lambda stream: None) for name in ("old", "fresh"))
    os.utime(old, (0, 0))
    cache.cached_file("new", lambda stream: None)
    assert sorted(os.listdir(home)) == ["fresh", "new"]
    assert fresh.exists()


def test_a_damaged_value_is_computed_anew(home: Path) -> None:
    assert cache.cached_value("value", lambda: {"a": 1}) == {"a": 1}
    assert cache.cached_value("value", lambda: None) == {"a": 1}
    (home / "value.json").write_bytes(b'{"a"')
    assert cache.cached_value("value", lambda: 2) == 2
    assert cache.cached_value("value", lambda: 3) == 2


def test_without_a_writable_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nothing")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cache.directory().parent == tmp_path
    assert cache.directory() == cache.directory()
