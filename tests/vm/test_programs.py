from __future__ import annotations

import sys
from pathlib import Path

import pytest

from virtio.errors import HostError
from virtio.vm import programs


def test_a_program_comes_with_its_loader_and_libraries() -> None:
    found = programs.libraries("/bin/ls")
    assert all(Path(path).exists() for path in found)
    names = [Path(path).name for path in found]
    assert names[0].startswith("ld-")
    assert "libc.so.6" in names
    assert len(set(found)) == len(found)


def test_scripts_and_text_need_none(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    assert programs.libraries(str(script)) == []


@pytest.mark.parametrize("size", [0, 6, 64, 80])
def test_a_cut_off_program_is_no_program(tmp_path: Path, size: int) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes(Path("/bin/ls").read_bytes()[:size])
    assert programs.libraries(str(cut)) == []


def test_a_missing_program_is_named_with_its_package() -> None:
    assert programs.require("sh", "dash").endswith("/sh")
    with pytest.raises(HostError, match="no-such-program is not installed") as raised:
        programs.require("no-such-program", "some-package")
    assert raised.value.fix == "apt install some-package"


def test_programs_of_root_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert programs.locate("sh") is not None
    assert programs.locate(Path(sys.executable).name + "-no") is None
