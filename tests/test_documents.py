"""Every block of code in the documents is run, or says in a comment before it why not.

A document is followed from top to bottom in an empty directory, with ``/tmp/`` standing for it:

- a block with a file name as its caption is written to that file;
- Python runs as one program, block by block; one that calls ``virtio.serve`` runs beside it;
- of a ``console`` block the lines after ``$`` are run and must succeed, and what stands below them is what
  they print, ``...`` standing for anything; a line that ends in ``&`` is left running.
"""

from __future__ import annotations

import doctest
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    if "_build" not in path.parts
)
MARKS = {
    "docs/howto/drive-a-back-end.md": [pytest.mark.peer],
    "docs/howto/guests.md": [pytest.mark.guest],
    "docs/howto/serve-a-disk.md": [pytest.mark.guest],
}
NEEDED = {
    "docs/howto/guests.md": ["linux.uml", "mkfs.ext4", "busybox"],
    "docs/howto/serve-a-disk.md": ["linux.uml", "mkfs.ext4", "busybox"],
    "docs/howto/drive-a-back-end.md": ["qemu-storage-daemon"],
}
"""Programs without which a document cannot be followed."""

RUN = {"python", "console"}
SHOWN = {"text", "xml", "sh", "toml", "yaml", "cython", ""}
"""Languages of blocks that are not programs of ours."""

FENCE = re.compile(
    r"(?:<!-- not run: (?P<reason>.+?) -->\n)?"
    r"^```(?:\{code-block\} *)?(?P<language>[\w{}-]*)(?P<rest>[^\n]*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
CAPTION = re.compile(r":caption: (\S+)\n\s*")
SOCKET = re.compile(r"[\w./-]+\.sock\b")
WAIT_SECONDS = 20.0


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    caption: str | None
    reason: str | None
    line: int


def blocks(document: Path) -> Iterator[Block]:
    content = (ROOT / document).read_text()
    for match in FENCE.finditer(content):
        caption = CAPTION.match(match["text"])
        yield Block(
            match["language"],
            match["text"][caption.end() :] if caption else match["text"],
            caption[1] if caption else None,
            match["reason"],
            content.count("\n", 0, match.start("language")) + 2,
        )


class Reader:
    """Someone who follows a document in an empty directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.left_running: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin",
            "XDG_RUNTIME_DIR": str(folder),
            "PYTHONPATH": str(folder),
            "COLUMNS": "100",
        }

    def follow(self, block: Block) -> None:
        text = block.text.replace("/tmp/", f"{self.folder}/")
        if block.caption:
            (self.folder / block.caption).write_text(text)
        elif block.language == "console":
            self.console(text)
        elif "virtio.serve(" in text:
            self.leave_running([sys.executable, "-c", text], text)
        else:
            exec(compile("\n" * (block.line - 1) + text, "document", "exec"), self.names)

    def console(self, text: str) -> None:
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            found = re.match(r"((?:[^\n]*\\\n)*[^\n]*)\n?(.*)", part, re.DOTALL)
            assert found is not None
            self.command(found[1], found[2])

    def command(self, line: str, wanted: str) -> None:
        if line.endswith("&"):
            self.leave_running(["sh", "-c", "exec " + line.removesuffix("&")], line)
            return
        result = subprocess.run(
            line, shell=True, cwd=self.folder, env=self.environment, timeout=100, check=False,
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        assert result.returncode == 0, f"$ {line}\n{result.stdout}{result.stderr}"
        shown = result.stdout if wanted.strip() else ""
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        assert doctest.OutputChecker().check_output(wanted, shown, flags), f"$ {line}\n{shown}{result.stderr}"

    def leave_running(self, argv: list[str], text: str) -> None:
        """Start a service, and wait for the socket that its text names."""
        process = subprocess.Popen(argv, cwd=self.folder, env=self.environment)
        self.left_running.append(process)
        path = self.folder / SOCKET.findall(text)[-1]
        until = time.monotonic() + WAIT_SECONDS
        while not (path.exists() and stat.S_ISSOCK(path.stat().st_mode)):
            assert process.poll() is None, f"{text}\nended with status {process.returncode}"
            assert time.monotonic() < until, f"{text}\nno socket {path}"
            time.sleep(0.02)

    def leave(self) -> None:
        """Stop what is still running; it ends cleanly."""
        for process in self.left_running:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(WAIT_SECONDS) for process in self.left_running] == [0] * len(self.left_running)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(path, marks=MARKS.get(str(path), []), id=str(path))
        for path in DOCUMENTS
        if any(block.language in RUN for block in blocks(path))
    ],
)
def test_following_a_document(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from virtio.vm.programs import locate

    for program in NEEDED.get(str(document), ()):
        if locate(program) is None:
            pytest.skip(f"{program} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    reader = Reader(tmp_path)
    try:
        for block in blocks(document):
            if block.language in RUN and block.reason is None:
                reader.follow(block)
    finally:
        reader.leave()


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_block_says_its_language(document: Path) -> None:
    for block in blocks(document):
        known = block.language in RUN | SHOWN or block.language.startswith("{")
        assert known, f"{document}:{block.line}: nobody knows what to do with {block.language!r}"
        if block.caption is None and block.language == "":
            assert "import virtio" not in block.text, f"{document}:{block.line}: Python without its name"


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_what_is_named_exists(document: Path) -> None:
    from virtio.errors import catalogue

    text = (ROOT / document).read_text()
    codes = {cls.__name__ for cls in catalogue().values()} | set(catalogue())
    for word in re.findall(r"`([^`\n]+)`", text):
        if re.fullmatch(r"E-[A-Z-]+|[A-Z]\w+Error", word):
            assert word in codes, f"{document}: {word}"
        if re.fullmatch(r"(tests|examples|tools|src|docs)/[\w./*-]+", word) and "NAME" not in word:
            assert list(ROOT.glob(word.rstrip("/"))), f"{document}: {word}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_somewhere(document: Path) -> None:
    folder = (ROOT / document).parent
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)[^)]*\)", (ROOT / document).read_text()):
        assert (folder / target).exists(), f"{document}: {target}"
