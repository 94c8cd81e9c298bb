"""What becomes of figures: tables, documents, drawings. The figures themselves are made up."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Load = Callable[[str], ModuleType]


def figures(iops: float) -> dict[str, float]:
    return {"iops": iops, "p50_us": 12.3, "p99_us": 45.6, "cpu_ns": 789.0}


@pytest.fixture
def results() -> dict[str, Any]:
    workload = {
        "section": "disk",
        "ours": "pyvirtio",
        "other": "storage-daemon",
        "bar": 3.0,
        "limit": {"name": "pread 4k", "iops": 810_000.0},
        "figures": {"pyvirtio": figures(900_000), "storage-daemon": figures(300_000)},
    }
    alone = {
        **workload,
        "section": "own",
        "limit": None,
        "bar": None,
        "figures": {"pyvirtio": figures(50_000)},
    }
    return {
        "circumstances": {"kernel": "6.18"},
        "blk": {
            "workloads": {"4k randread": workload, "packed ring": alone},
            "limits": {"pread 4k": 810_000.0},
            "hot files": "1024 MiB, locked into memory; none lost",
        },
        "handler": {"plain function": figures(2_000_000)},
        "service": {
            "listening_ms": 99.0, "listening_worst_ms": 120.0, "anonymous_mib": 14.0, "resident_mib": 22.0,
            "idle_percent": 0.0,
        },
        "instructions": {"null, split": {"device": 925.0, "driver": 605.0, "functions": {}}},
    }  # fmt: skip


def test_a_row_tells_both_sides_their_ratio_and_the_limit(load: Load, results: dict[str, Any]) -> None:
    tables = {each.name: each for each in load("report").tables_of(results)}
    assert set(tables) == {"disk", "own", "limits", "handler", "service", "instructions"}
    row = ["4k randread", "300 k", "900 k", "3.00", "789", "789", "12.3", "12.3", "45.6", "45.6", "810 k"]
    assert tables["disk"].rows == [row]
    assert tables["own"].rows == [["packed ring", "", "50.0 k", "", "", "789", "", "12.3", "", "45.6", ""]]
    assert tables["limits"].rows == [("pread 4k", "810 k", "1235")]
    assert all(len(row) == len(each.head) for each in tables.values() for row in each.rows)


def test_text(load: Load, results: dict[str, Any]) -> None:
    text = load("output").as_text(results)
    assert text.startswith("kernel: 6.18\n\nA hot file\nworkload ")
    assert text.endswith("hot files: 1024 MiB, locked into memory; none lost")


def test_a_new_document_and_one_that_is_there(load: Load, results: dict[str, Any], tmp_path: Path) -> None:
    output = load("output")
    made, kept = tmp_path / "made.md", tmp_path / "kept.md"
    output.update_document(made, output.as_markdown(results))
    assert "| 4k randread | 300 k | 900 k | 3.00 |" in made.read_text()
    kept.write_text("before\n<!-- begin: disk -->\nold\n<!-- end: disk -->\nafter\n")
    for _ in range(2):
        output.update_document(kept, output.as_markdown(results))
    text = kept.read_text()
    assert text.startswith("before\n<!-- begin: disk -->\n\n| workload |")
    assert text.endswith("|\n\n<!-- end: disk -->\nafter\n")
    assert "old" not in text
    assert text.count("4k randread") == 1
    with pytest.raises(SystemExit, match="no markers"):
        output.update_document(kept, {"limits": "what nobody asked for"})


def test_everything_is_written(load: Load, results: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    arguments = argparse.Namespace(
        json=tmp_path / "new" / "r.json", markdown=tmp_path / "r.md", plot=tmp_path / "sub" / "r.svg"
    )
    arguments.plot.parent.mkdir()
    load("output").write_all(results, arguments)
    assert json.loads(arguments.json.read_text()) == results
    assert "![Rates, and their ratios](sub/r.svg)" in arguments.markdown.read_text()
    drawing = arguments.plot.read_text()
    assert drawing.startswith("<?xml")
    assert "</svg>" in drawing


def test_the_documents_have_a_place_for_every_table(load: Load, results: dict[str, Any]) -> None:
    docs = Path(__file__).parent.parent.parent / "docs"
    text = (docs / "benchmarks.md").read_text()
    names = [*load("output").as_markdown(results), *load("workloads").SECTIONS, "plot"]
    for name in names:
        assert load("output")._between(name).search(text), name
    anatomy = (docs / "explanation" / "time-of-a-request.md").read_text()
    for name in ("steps", "whole", "two-cores", "primitives"):
        assert load("output")._between(name).search(anatomy), name
