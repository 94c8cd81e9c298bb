import json
import os
import struct

import pytest
from click.testing import CliRunner

from virtio.cli import checks
from virtio.cli.app import root


def doctor(*arguments: str):
    return CliRunner().invoke(root, ["doctor", *arguments], catch_exceptions=False)


def result(name: str, *, ok: bool, essential: bool = False) -> checks.Result:
    return checks.Result(name, ok, f"{name} found", f"{name} matters", f"get {name}", essential)


def test_this_machine_is_described():
    found = json.loads(doctor("--json").stdout)
    assert [entry["name"] for entry in found] == [check().name for check in checks.CHECKS]
    assert found[0]["ok"]
    assert os.uname().release in found[0]["found"]
    assert all(entry["why"] and entry["fix"] and entry["found"] for entry in found)


def test_what_is_missing_comes_with_why_and_fix(monkeypatch):
    monkeypatch.setattr(checks, "CHECKS", (lambda: result("here", ok=True), lambda: result("gone", ok=False)))
    done = doctor()
    assert done.exit_code == 0
    assert (
        done.stdout
        == "ok       here  here found\nmissing  gone  gone found\n\ngone: gone matters\n  fix: get gone\n"
    )


def test_only_the_essential_makes_it_fail(monkeypatch):
    from virtio.cli.app import run

    monkeypatch.setattr(checks, "CHECKS", (lambda: result("core", ok=False, essential=True),))
    assert run(["doctor"]) == 4
    assert run(["doctor", "--json"]) == 4
    monkeypatch.setattr(checks, "CHECKS", (lambda: result("extra", ok=False),))
    assert run(["doctor"]) == 0


def test_a_program_is_found_in_path_or_not(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not checks.passt().ok
    assert "passt is not in PATH" in checks.passt().found
    program = tmp_path / "passt"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert checks.passt().ok
    assert checks.passt().found == str(program)


def elf(*segments: int) -> bytes:
    header = b"\x7fELF\x02\x01\x01".ljust(32, b"\0") + struct.pack("<QQIHHH", 64, 0, 0, 64, 56, len(segments))
    return header.ljust(64, b"\0") + b"".join(struct.pack("<I", kind).ljust(56, b"\0") for kind in segments)


@pytest.mark.parametrize(
    ("content", "static"),
    [
        (elf(1, 1), True),
        (elf(1, 3, 1), False),
        (b"#!/bin/sh\n", False),
        (b"", False),
        (elf(1)[:40], False),
        (elf(*[1] * 200)[:4096], True),
    ],
)
def test_a_static_program_is_told_from_others(tmp_path, monkeypatch, content, static):
    program = tmp_path / "busybox"
    program.write_bytes(content)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checks.busybox().ok is static


def test_limits_are_read(monkeypatch):
    monkeypatch.setattr(checks.resource, "getrlimit", lambda which: (256, -1))
    assert not checks.open_files().ok
    assert checks.open_files().found == "256 per process, unlimited at most"
    assert checks.locked_memory().found == "0 KiB"
    monkeypatch.setattr(checks.resource, "getrlimit", lambda which: (-1, -1))
    assert checks.open_files().ok
    assert checks.locked_memory().ok


def test_kvm_says_which_step_fails(monkeypatch):
    def refuse(*arguments):
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(checks.os, "open", refuse)
    assert checks.kvm().found == "/dev/kvm cannot be opened: Permission denied"


def test_kvm_that_makes_machines_but_runs_none_is_no_use(monkeypatch):
    from virtio.vm import accelerator

    monkeypatch.setattr(checks, "_kvm_problem", lambda: "")
    monkeypatch.setattr(checks.shutil, "which", lambda program: f"/usr/bin/{program}")
    found = accelerator.Accelerator("tcg", "TCG, because KVM does not work here: no 64-bit mode")
    monkeypatch.setattr(accelerator, "choose", lambda program: found)
    assert not checks.kvm().ok
    assert checks.kvm().found == found.reason


@pytest.mark.parametrize(
    ("refused", "capabilities", "ok", "found"),
    [
        ("", "000001ffffffffff", True, "/dev/net/tun can be opened, and CAP_NET_ADMIN: taps can be made"),
        ("", "0000000000000000", False, "/dev/net/tun can be opened, only taps that were made for this user"),
        ("No such file", "000001ffffffffff", False, "No such file"),
        ("", None, False, "/dev/net/tun can be opened, only taps that were made for this user"),
    ],
)
def test_who_may_make_taps(monkeypatch, refused, capabilities, ok, found):
    status = "" if capabilities is None else f"Name:\tvirtio\nCapEff:\t{capabilities}\n"
    monkeypatch.setattr(checks, "_tun_problem", lambda: refused)
    monkeypatch.setattr(checks, "_read", lambda path: status)
    assert (checks.tap().ok, checks.tap().found) == (ok, found)


def test_a_missing_device_file_is_named(monkeypatch):
    def refuse(path, flags):
        raise OSError(2, "No such file or directory")

    monkeypatch.setattr(checks.os, "open", refuse)
    assert checks.tap().found == "/dev/net/tun cannot be opened: No such file or directory"


def test_pyroute2_is_found_or_not(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not checks.pyroute2().ok
    assert "pyvirtio[tap]" in checks.pyroute2().fix
