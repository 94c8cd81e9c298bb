"""Sphinx settings. ``make docs`` builds with -n -W: every reference resolves, and a warning is an error."""

from __future__ import annotations

import ast
from functools import cache
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from virtio.errors import VirtioError

SOURCE = Path(__file__).parent.parent / "src"

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

# What -n may not find, and why.
nitpick_ignore_regex = [
    # Python's own: there is no inventory to look them up in.
    (r"py:.*", r"(collections\.abc|enum|io|ipaddress|os|pathlib|socket|typing)\..*"),
    # Names that exist for type checkers alone.
    (r"py:class", r"(Buffer|ReadableBuffer|WriteableBuffer|PayloadType|ControlLoop)"),
    (r"py:.*", r"virtio\.spec\.layout\.[ST]"),
    # The resolver cuts Mapping[str, ...] and Literal[...] of a quoted annotation at the comma.
    (r"py:class", r"dict\[str"),
    # Internals that public classes derive from, hold or hand out; they have no page.
    (r"py:class", r"virtio\.vhost_user\.(connection\._\w+|framing\.Outgoing|layout\.Structure)"),
    (r"py:class", r"virtio\.drivers\.(blk\.operation\.Piece|channel\.Channel)"),
    (r"py:class", r"virtio\.drivers\.net\.(steering\.Steering|commands\.Command)"),
    (r"py:class", r"virtio\.network\.switch\.(named\.NamedSwitch|forwarding\.Forwarder)"),
    (r"py:class", r"virtio\.spec\.(layout\.Scalar|net\.Hdr)"),
    (r"py:class", r"virtio\.storage\.native\.NativeStorage"),
    (r"py:class", r"virtio\.vm\.(qmp\.Qmp|choice\.Choice)"),
]


def _examples(app: Any, context: Any, lines: list[str]) -> None:
    """Our commands keep their examples as pairs, which the extension does not know."""
    for line, meaning in getattr(context.command, "examples", ()):
        lines += [f"``{line}``", f"    {meaning}", ""]


@cache
def _stub(module: str) -> dict[str, ast.FunctionDef]:
    """The functions and methods that the .pyi of a compiled module declares, by qualified name."""
    path = SOURCE.joinpath(*module.split(".")).with_suffix(".pyi")
    found = {}
    for node in ast.parse(path.read_text()).body if path.exists() else ():
        for inner in node.body if isinstance(node, ast.ClassDef) else (node,):
            if isinstance(inner, ast.FunctionDef):
                owner = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
                found[owner + inner.name] = inner
    return found


def _declared(obj: Any, method: str = "") -> ast.FunctionDef | None:
    """What the stub says of a compiled function or method, without its self or cls."""
    module, qualified = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
    if not str(module).startswith("virtio.") or qualified is None:
        return None
    found = _stub(str(module)).get(qualified + method)
    if found is not None:
        found.args.args = [word for word in found.args.args if word.arg not in ("self", "cls")]
    return found


def _stub_signature(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Compiled functions do not know their types; their stub does."""
    declared = None if isinstance(obj, type) else _declared(obj)
    if declared is None:
        return None
    return f"({ast.unparse(declared.args)})", ast.unparse(declared.returns) if declared.returns else None


def _constructor(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """A compiled class has no signature that autodoc would show, so its description begins with one."""
    declared = _declared(obj, ".__init__") if isinstance(obj, type) else None
    if declared is not None and (declared.args.args or declared.args.kwonlyargs):
        lines[:0] = [f"``{obj.__name__}({ast.unparse(declared.args)})``", ""]


def _code_of_error(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """An error's description ends with its code, exit status and fix."""
    if isinstance(obj, type) and issubclass(obj, VirtioError):
        lines += [f"Code ``{obj.code}``, exit status {obj.exit_status}."]
        lines += ["", f"Fix: {obj.fix}.", ""] if obj.fix else [""]


def setup(app: Any) -> None:
    """Hooks of the build."""
    app.connect("sphinx-click-process-epilog", _examples)
    app.connect("autodoc-process-signature", _stub_signature)
    app.connect("autodoc-process-docstring", _constructor)
    app.connect("autodoc-process-docstring", _code_of_error)
