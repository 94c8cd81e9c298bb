"""What the back-end programs have in common: QEMU's conventions for them, their flags, their life.

A back-end fails early, never goes to the background, ends quickly on SIGTERM, and serves the next front-end
when one has left. Its socket listens before the device is made, since loading that takes most of the start.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from virtio.cli.command import Command
from virtio.cli.frontends import FRONTENDS, NET, Attachable, lines_for
from virtio.cli.output import say
from virtio.cli.signals import stopping
from virtio.cli.sockets import default_path
from virtio.cli.talk import Talk
from virtio.errors import UsageError, VirtioError
from virtio.service import run
from virtio.vhost_user.address import How
from virtio.vhost_user.server import Server, Service
from virtio.vhost_user.systemd import listen_fds

if TYPE_CHECKING:
    from virtio.cli.capabilities import Program
    from virtio.device import Device

__all__ = ["BackendCommand", "Options", "attachable", "backend_options", "print_lines", "run_backend"]


class BackendCommand(Command):
    """A back-end with a type in vhost-user's list: ``--print-capabilities`` goes before everything else."""

    def __init__(self, *args: Any, program: Program | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.program = program
        if program is not None:
            help_text = "Print what this back-end is as JSON, and end."
            self.params.append(click.Option(["--print-capabilities"], is_flag=True, help=help_text))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Answer ``--print-capabilities`` whatever else is there, as the conventions say."""
        ours = args[: args.index("--")] if "--" in args else args
        if self.program is not None and "--print-capabilities" in ours and not ctx.resilient_parsing:
            click.echo(self.program.capabilities())
            ctx.exit()
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """As any command; the flag may also have come by the environment."""
        if ctx.params.pop("print_capabilities", False):
            assert self.program is not None
            click.echo(self.program.capabilities())
            return 0
        return super().invoke(ctx)


@dataclass(frozen=True)
class Options:
    """How a back-end is served. ``address`` may still be replaced by the default, see `settled`."""

    address: str | None
    mode: int | None
    group: str | None
    one_off: bool
    poll_us: int | None
    frontend: str | None

    def settled(self, kind: str, name: str = "") -> str:
        """The address: the one given, a service manager's socket, or the default path of ``kind``."""
        if self.address is not None:
            return self.address
        inherited = listen_fds() if self.frontend is None else []
        if len(inherited) > 1:
            raise UsageError(f"{len(inherited)} sockets were passed by the service manager; one is served")
        return f"fd:{inherited[0]}" if inherited else default_path(kind, name)


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise click.BadParameter(f"{text!r} is not a mode such as 660")
    return mode


_OPTIONS = (
    click.option("-s", "--socket-path", metavar="PATH", help="Listen at this path. [default: says which]"),
    click.option("--fd", type=click.IntRange(0), help="Use this inherited socket, listening or connected."),
    click.option(
        "--socket-mode", type=_mode, metavar="MODE", help="Permissions of the socket's file, such as 660."
    ),
    click.option("--socket-group", metavar="GROUP", help="Group of the socket's file."),
    click.option("--one-off", is_flag=True, help="End when the first front-end leaves."),
    click.option(
        "--poll-us",
        type=click.IntRange(0),
        metavar="US",
        help="Look for work that long before sleeping, in microseconds; 0 saves processor time.",
    ),
    click.option(
        "--for",
        "frontend",
        type=click.Choice(list(FRONTENDS)),
        help="Print the lines for this front-end, and end without serving.",
    ),
)


def backend_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of all back-ends; it gets them as one argument ``options``."""

    @wraps(function)
    def command(
        *args: Any,
        socket_path: str | None,
        fd: int | None,
        socket_mode: int | None,
        socket_group: str | None,
        one_off: bool,
        poll_us: int | None,
        frontend: str | None,
        **kwargs: Any,
    ) -> Any:
        if socket_path is not None and fd is not None:
            raise UsageError("--socket-path and --fd say two things: give one of them")
        address = f"vhost-user:{socket_path}" if socket_path is not None else None
        if fd is not None:
            address = f"fd:{fd}"
        options = Options(address, socket_mode, socket_group, one_off, poll_us, frontend)
        return function(*args, options=options, **kwargs)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def print_lines(options: Options, device: Attachable) -> None:
    """Answer ``--for``: the lines, alone, on standard output."""
    assert options.frontend is not None
    click.echo(lines_for(options.frontend, _with_path(device)))


def _with_path(device: Attachable) -> Attachable:
    scheme, _, path = device.socket.partition(":")
    if scheme in ("fd", "connect"):
        raise UsageError(f"{device.socket} has no path to attach to", fix="give --socket-path")
    plain = os.path.abspath(path if scheme == "vhost-user" else device.socket)
    return replace(device, socket=plain)


def run_backend(
    options: Options,
    address: str,
    make_device: Callable[[], Device],
    *,
    title: str,
    on_hangup: Callable[[Device], None] | None = None,
    on_listening: Callable[[Server, Service], None] | None = None,
    tracebacks: bool = False,
) -> int:
    """Serve what ``make_device`` makes at ``address`` until told to stop; the exit status.

    ``title`` says what is served. ``on_hangup`` is called with the device on SIGHUP, on the control thread,
    ``on_listening`` once front-ends are served. ``tracebacks``: the device is the user's own code.
    """
    with (
        Talk(tracebacks=tracebacks) as talk,
        Server(on_report=talk.report) as server,
        stopping(server.request_stop) as stop,
    ):
        service = server.add(
            None, address, mode=options.mode, group=options.group, one_off=options.one_off,
            poll_us=options.poll_us,
        )  # fmt: skip
        service.device = make_device()

        def listening(server: Server) -> None:
            _introduce(service, title)
            if on_listening is not None:
                on_listening(server, service)

        try:
            with _hangup(server, service, on_hangup, talk):
                run(server, listening)
        finally:
            server.stop()
            service.device.close()
    if service.serves_one and talk.peer_error is not None and not stop.asked:
        return talk.peer_error.exit_status
    return stop.status


def _introduce(service: Service, title: str) -> None:
    """Say where the device is, and how to attach it."""
    if service.address.how is not How.LISTEN:
        say(f"{title}, at {service.address}")
        return
    path = os.path.abspath(service.address.target)
    assert service.device is not None
    device = attachable(service.device, path)
    qemu = " \\\n    ".join(lines_for("qemu", device).splitlines())
    say(
        f"{title}, at {path}\n"
        f"  QEMU:\n    {qemu}\n"
        f"  User-Mode Linux: {lines_for('uml', device)}\n"
        f"  others: --for {', '.join(name for name in FRONTENDS if name not in ('qemu', 'uml'))}"
    )


def attachable(device: Device, address: str) -> Attachable:
    """What a front-end must be told of ``device`` at ``address``."""
    queues = [queue for queue in device.queues for _ in range(queue.count)]
    largest = max((queue.size for queue in queues), default=0)
    told = Attachable(device.device_id, address, len(queues), largest, len(device.config))
    if device.device_id == NET:
        mac = getattr(device.config, "mac", b"")
        return replace(told, num_queues=max(len(queues) // 2, 1), mac=mac.hex(":"))
    return told


@contextmanager
def _hangup(
    server: Server, service: Service, react: Callable[[Device], None] | None, talk: Talk
) -> Iterator[None]:
    """SIGHUP calls ``react`` with the device; from a terminal that closes, it ends the service."""
    if react is None:
        yield
        return
    had_terminal = _has_terminal()

    def told() -> None:
        try:
            assert service.device is not None
            react(service.device)
        except (VirtioError, OSError) as error:
            talk.say(error.report() if isinstance(error, VirtioError) else str(error))

    def on_signal(number: int, frame: FrameType | None) -> None:
        if had_terminal and not _has_terminal():
            server.request_stop()
        else:
            server.call(told)

    before = signal.signal(signal.SIGHUP, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
