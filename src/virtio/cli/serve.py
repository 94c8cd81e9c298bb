"""``virtio serve``: a device of your own."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import click

from virtio.cli.backend import (
    BackendCommand,
    Options,
    attachable,
    backend_options,
    print_lines,
    run_backend,
)
from virtio.errors import UsageError


@click.command(
    cls=BackendCommand,
    examples=[
        ("virtio serve upper.py:Upper", "serve the class Upper of a file; says where"),
        ("virtio serve upper.py:Upper /tmp/upper.sock --reload", "and anew whenever the file changes"),
        ("virtio serve virtio.devices.entropy:Entropy", "a class of an installed module"),
        ("virtio serve upper.py:Upper connect:/tmp/s", "connect to a front-end that listens"),
    ],
)
@click.argument("device", metavar="FILE.py:CLASS")
@click.argument("address", required=False, metavar="[ADDRESS]")
@click.option("--reload", is_flag=True, help="Serve the new device whenever the file changes.")
@backend_options
def command(device: str, address: str | None, reload: bool, options: Options) -> int:
    """Serve a device written in Python.

    ADDRESS is a path to listen on, connect:PATH or fd:N. Serves one front-end after the other (vhost-user)
    until SIGTERM or ^C.
    """
    from virtio.cli.device_loader import Target

    if address is not None:
        if options.address is not None:
            raise UsageError(f"{address} and {options.address} are two addresses: give one of them")
        options = replace(options, address=address)
    target = Target(device)
    made = target.load()
    where = options.settled("serve", target.name)
    if options.frontend is not None:
        print_lines(options, attachable(made, where))
        return 0
    if reload and options.one_off:
        raise UsageError("--reload is for serving on, --one-off for ending")
    on_listening = None
    if reload:
        from virtio.cli.reload import watch

        on_listening = partial(watch, target)
    title = f"{target.name} of {target.source}"
    return run_backend(options, where, lambda: made, title=title, on_listening=on_listening, tracebacks=True)
