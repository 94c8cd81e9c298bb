"""``virtio rng``: random numbers for guests."""

from __future__ import annotations

import click

from virtio.cli.backend import BackendCommand, Options, backend_options, print_lines, run_backend
from virtio.cli.capabilities import PROGRAMS
from virtio.cli.frontends import RNG, Attachable


@click.command(
    cls=BackendCommand,
    program=PROGRAMS["rng"],
    examples=[
        ("virtio rng", "serve the kernel's random numbers; says where, and what to tell QEMU"),
        ("virtio rng -f /dev/hwrng -s /tmp/rng.sock", "from another source, at a path of your choice"),
        ("virtio rng -m 512 -p 1000", "at most 512 bytes a second"),
    ],
)
@click.option("-f", "--filename", metavar="FILE", help="Read this instead of the kernel's generator.")
@click.option(
    "-m",
    "--max-bytes",
    type=click.IntRange(1),
    metavar="N",
    help="Hand out at most N bytes in each period. [default: no limit]",
)
@click.option(
    "-p",
    "--period",
    type=click.IntRange(1),
    default=65536,
    show_default=True,
    metavar="MS",
    help="Length of a period in milliseconds.",
)
@backend_options
def command(filename: str | None, max_bytes: int | None, period: int, options: Options) -> int:
    """Serve random numbers.

    Listens for one hypervisor after the other (vhost-user) until SIGTERM or ^C.
    """
    address = options.settled("rng")
    if options.frontend is not None:
        print_lines(options, Attachable(RNG, address, queue_size=64))
        return 0
    from virtio.devices.entropy import Entropy  # before it listens: a source that is missing is said early

    device = Entropy(filename, max_bytes=max_bytes, period=period)
    source = filename or "the kernel's generator"
    return run_backend(options, address, lambda: device, title=f"random numbers of {source}")
