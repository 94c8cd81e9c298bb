import ast
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from virtio import errors
from virtio.cli import explain
from virtio.cli.app import root, run

SOURCE = Path(__file__).parents[2] / "src" / "virtio"


def ask(*arguments: str) -> str:
    result = CliRunner().invoke(root, ["explain", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_a_code_is_explained_with_its_fix():
    text = ask("E-SHM")
    assert text.startswith("E-SHM: The front-end did not share the guest's memory")
    assert "Fix: start QEMU with -object memory-backend-memfd" in text
    assert text.endswith("Exit status 3: the other program's fault.\n")
    assert ask("shm") == ask("e-shm") == text


@pytest.mark.parametrize("code", errors.catalogue())
def test_every_code_has_an_explanation(code):
    entry = json.loads(ask(code, "--json"))
    assert entry["code"] == code
    assert entry["text"]
    assert entry["exit_status"] in explain.FAULTS


def test_the_list_is_complete():
    listed = [line.split()[0] for line in ask().splitlines()]
    assert listed == list(errors.catalogue())
    assert [entry["code"] for entry in json.loads(ask("--json"))] == listed


def test_an_unknown_code_suggests_a_known_one(capsys):
    assert run(["explain", "E-PROTOKOL"]) == 2
    assert "did you mean E-PROTOCOL" in capsys.readouterr().err
    assert run(["explain", "zzzzzzzz"]) == 2
    assert "virtio explain lists them all" in capsys.readouterr().err


def defines_a_code(path: Path) -> bool:
    classes = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef))
    bodies = (statement for node in classes for statement in node.body if isinstance(statement, ast.Assign))
    return any(
        isinstance(s.value, ast.Constant)
        and str(s.value.value).startswith("E-")
        and s.targets[0].id == "code"
        for s in bodies
        if isinstance(s.targets[0], ast.Name)
    )


def test_no_module_defines_errors_unheard_of():
    found = {path.relative_to(SOURCE) for path in SOURCE.rglob("*.py") if defines_a_code(path)}
    assert {path.parts[0] for path in found} == {"errors"}
