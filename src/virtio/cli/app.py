"""The root command: which commands there are, and how what they raise becomes an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from virtio.cli.output import say
from virtio.errors import HostError, VirtioError

__all__ = ["COMMANDS", "root", "run"]

COMMANDS: dict[str, str] = {
    "backends": "List the back-end programs, and describe them to QEMU and libvirt.",
    "blk": "Serve a disk.",
    "completion": "Print the completion script of a shell.",
    "demo": "Show it all: a disk in Python, real guests that use it, and two guests that talk.",
    "doctor": "Say what this machine has and lacks for virtio.",
    "explain": "Explain an error code.",
    "io": "Drive the disk or the NIC behind a vhost-user socket.",
    "net": "Serve a NIC whose frames go where URL (or --link) says.",
    "probe": "Say what is behind a vhost-user socket.",
    "rng": "Serve random numbers.",
    "run": "Run COMMAND in a throw-away Linux guest, with disks served by pyvirtio.",
    "serve": "Serve a device written in Python.",
    "spec": "Look things up in the specification.",
    "switch": "Serve a network switch that NICs of any process join.",
}
"""Every command and what it does; command ``a-b`` is ``command`` in the module ``virtio.cli.a_b``."""


class _Root(click.Group):
    """A group that imports a command's module only when that command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"virtio.cli.{cmd_name.replace('-', '_')}")
        command = module.command
        assert isinstance(command, click.Command)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_paragraph()
        formatter.write_text(
            "Exit status: 0 done, 1 failure, 2 usage, 3 the peer broke the protocol, "
            "4 the environment lacks something, 130 interrupted."
        )


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from importlib.metadata import version

    click.echo(f"virtio {version('pyvirtio')}")
    ctx.exit()


@click.group(
    cls=_Root,
    context_settings={"auto_envvar_prefix": "VIRTIO", "help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print the version.",
)
@click.pass_context
def root(ctx: click.Context) -> None:
    """Serve virtual devices to any hypervisor, and drive any device."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return the exit status; whatever goes wrong is said on standard error."""
    try:
        result = root.main(list(arguments), prog_name="virtio", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.Abort:
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except VirtioError as error:
        say(f"virtio: {error.report()}")
        return error.exit_status
    except BrokenPipeError:
        return _reader_left()
    except OSError as error:
        say(f"virtio: {HostError(_os_error_text(error)).report()}")
        return HostError.exit_status
    except Exception as error:
        return _report_bug(error)


def _reader_left() -> int:
    """The reader of our output went away, as ``| head`` does: say nothing, now or at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _os_error_text(error: OSError) -> str:
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
    return where + (error.strerror or str(error) or type(error).__name__)


def _report_bug(error: Exception) -> int:
    if os.environ.get("VIRTIO_DEBUG") == "1":
        from traceback import print_exc

        print_exc()
    say(
        f"virtio: this is a bug in pyvirtio: {type(error).__name__}: {error}\n"
        "  please report it with the output of the same command under VIRTIO_DEBUG=1 "
        "and of `virtio doctor --json`"
    )
    return 1
