"""``virtio backends``: our back-end programs, and the files that tell QEMU and libvirt of them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from virtio.cli.capabilities import PROGRAMS, Program
from virtio.cli.command import Command, json_option
from virtio.cli.output import emit, say, table
from virtio.errors import HostError


@click.command(
    cls=Command,
    examples=[
        ("virtio backends", "list them"),
        ("virtio backends --install", "write 50-virtio-blk.json and so on where management tools look"),
        ("virtio backends --install --dir /usr/share/qemu/vhost-user", "as a distribution's package does"),
    ],
)
@click.option("--install", is_flag=True, help="Write a description file for each.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to. [default: /etc/qemu/vhost-user as root, else $XDG_CONFIG_HOME/qemu/vhost-user]",
)
@json_option
def command(install: bool, directory: Path | None, as_json: bool) -> None:
    """List the back-end programs, and describe them to QEMU and libvirt."""
    directory = directory or _default_directory()
    found = [_entry(program, directory) for program in PROGRAMS.values()]
    if install:
        for entry in found:
            _write(Path(entry["file"]), entry["description"])
            say(f"wrote {entry['file']}")
        if not as_json:
            return
    emit(found, as_json, _in_words)


def _entry(program: Program, directory: Path) -> dict[str, Any]:
    binary = str(Path(sys.executable).parent / program.program)
    described = {
        "description": program.description,
        "type": program.type,
        "binary": binary,
        "tags": ["pyvirtio"],
    }
    return {
        "command": f"virtio {program.command}",
        "features": list(program.features),
        "file": str(directory / f"50-{program.program}.json"),
        "description": described,
    }


def _in_words(entries: list[dict[str, Any]]) -> str:
    rows = [(e["command"], e["description"]["type"], e["description"]["binary"], e["file"]) for e in entries]
    return table(rows, headers=("command", "type", "program", "description file"))


def _default_directory() -> Path:
    if os.geteuid() == 0:
        return Path("/etc/qemu/vhost-user")
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "qemu" / "vhost-user"


def _write(file: Path, described: dict[str, Any]) -> None:
    if not os.access(described["binary"], os.X_OK):
        raise HostError(f"{described['binary']} is not installed", fix="install pyvirtio with its programs")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(described, indent=2) + "\n")
    except OSError as error:
        raise HostError(
            f"cannot write {file}: {error.strerror}", fix="choose another place: --dir"
        ) from error
