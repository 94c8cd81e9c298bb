"""Sphinx settings. ``make docs`` builds with -n -W: every reference resolves, and a warning is an error."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from typing import Any

project = "pyvirtio"
author = "the pyvirtio authors"
copyright = author
release = version = installed_version("pyvirtio")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx_click",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "pyvirtio"
pygments_style = "friendly"
highlight_language = "none"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
python_use_unqualified_type_names = True

# Docstrings write `name` for code of ours; not each of those is a page.
default_role = "code"

# No inventory is fetched, so that the documentation builds without a network.
intersphinx_mapping: dict[str, Any] = {}

nitpick_ignore_regex: list[tuple[str, str]] = []


def _examples(app: Any, context: Any, lines: list[str]) -> None:
    """Our commands keep their examples as pairs, which the extension does not know."""
    for line, meaning in getattr(context.command, "examples", ()):
        lines += [f"``{line}``", f"    {meaning}", ""]


def setup(app: Any) -> None:
    """Hooks of the build."""
    app.connect("sphinx-click-process-epilog", _examples)
