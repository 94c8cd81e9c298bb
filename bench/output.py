"""Where results go: a terminal, a JSON file, a document's tables, a drawing."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from report import Table, tables_of
from tables import markdown_table, table


def write_all(results: Mapping[str, Any], arguments: argparse.Namespace) -> None:
    """To the terminal, and wherever the arguments say."""
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    print(as_text(results))
    parts = as_markdown(results)
    if arguments.plot and "blk" in results:
        from plot import draw

        draw(results, arguments.plot)
        if arguments.markdown:
            target = os.path.relpath(arguments.plot, arguments.markdown.parent)
            parts["plot"] = f"![Rates, and their ratios]({target})"
    if arguments.markdown:
        update_document(arguments.markdown, parts)


def as_text(results: Mapping[str, Any]) -> str:
    """For a terminal."""
    parts = ["\n".join(f"{name}: {text}" for name, text in results.get("circumstances", {}).items())]
    parts += [f"{each.title}\n{table(each.head, each.rows)}" for each in tables_of(results)]
    if "blk" in results:
        parts.append(f"hot files: {results['blk']['hot files']}")
    return "\n\n".join(part for part in parts if part)


def as_markdown(results: Mapping[str, Any]) -> dict[str, str]:
    """For a document: {name of the markers: what stands between them}."""
    parts = {each.name: _markdown(each) for each in tables_of(results)}
    if circumstances := results.get("circumstances"):
        parts["circumstances"] = "\n".join(f"- {name}: {text}" for name, text in circumstances.items())
    return parts


def _markdown(each: Table) -> str:
    return markdown_table(each.head, each.rows)


def update_document(path: Path, parts: Mapping[str, str]) -> None:
    """Put each part between its markers; a document that is not there yet is made of all parts.

    SystemExit if the document has markers for none of them.
    """
    if not path.exists():
        path.write_text("\n\n".join(_marked(name, text) for name, text in parts.items()) + "\n")
        return
    content = path.read_text()
    found = [name for name in parts if _between(name).search(content)]
    if not found:
        raise SystemExit(f"{path} has no markers such as <!-- begin: {next(iter(parts))} -->")
    for name in found:
        marked = _marked(name, parts[name])
        content = _between(name).sub(lambda _, text=marked: text, content)
    path.write_text(content)


def _marked(name: str, text: str) -> str:
    return f"<!-- begin: {name} -->\n\n{text}\n\n<!-- end: {name} -->"


def _between(name: str) -> re.Pattern[str]:
    return re.compile(rf"<!-- begin: {name} -->.*?<!-- end: {name} -->", re.DOTALL)
