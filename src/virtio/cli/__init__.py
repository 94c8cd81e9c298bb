"""The command line, ``virtio``: one module per command, loaded when that command runs.

How to add a command ``virtio frob``:

1. Write ``virtio/cli/frob.py`` with a ``command`` in it::

       from pathlib import Path

       import click

       from virtio.cli.command import Command, json_option
       from virtio.cli.output import emit, table

       @click.command(cls=Command, examples=[("virtio frob disk.img", "frob a disk")])
       @click.argument("path", type=click.Path(path_type=Path))
       @click.option("--depth", default=1, show_default=True, help="How deep to frob.")
       @json_option
       def command(path: Path, depth: int, as_json: bool) -> None:
           \"\"\"Frob a disk.\"\"\"
           from virtio.storage import frobber          # heavy imports inside: --help stays fast

           emit(frobber(path, depth), as_json, lambda found: table(found, headers=("name", "state")))

2. Add its name and the first line of its docstring to ``COMMANDS`` in ``virtio/cli/app.py``.

What the framework then does: ``--help`` with the examples, every option also as an environment variable
(``VIRTIO_FROB_DEPTH``), completion, and exit statuses. Raise a ``virtio.errors.VirtioError``: its report goes
to standard error and its ``exit_status`` becomes the program's (1 failure, 2 usage, 3 the peer broke the
protocol, 4 the environment lacks something; ^C is 130). Return an int to choose one yourself. Standard output
is data (``emit``), standard error is talk (``say``). A command that serves until it is told to stop runs
within ``virtio.cli.signals.stopping``.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """The entry point of ``virtio``, and of ``virtio-blk``: a program's name may choose the command."""
    command = sys.argv[0].rpartition("/")[2].partition("virtio-")[2]
    try:
        from virtio.cli.app import run

        status = run([command, *sys.argv[1:]] if command else sys.argv[1:])
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
