"""A throw-away Linux guest: a distribution's kernel, busybox, and the devices under test."""

from __future__ import annotations

import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from virtio.errors import GuestError, GuestTimeoutError, UsageError
from virtio.vm import initramfs, kernels, qemu, terminal, uml
from virtio.vm.agent import Agent, Result, Sink
from virtio.vm.choice import Choice, Kind, choose
from virtio.vm.devices import Attached
from virtio.vm.process import Plugs, Process
from virtio.vm.qmp import Qmp
from virtio.vm.setup import Lines, Setup, parse_memory

__all__ = ["Guest"]

PANIC = "Kernel panic"
CONSOLE_LINES = 25
"""How much of the console an error shows."""

END_SECONDS = 10.0
POLL_SECONDS = 0.02


class Guest:
    """A guest that is started by ``with``, and gone with all its traces after it.

    ::

        with vm.Guest(devices=[vm.Blk(socket)], files=["mkfs.ext4"]) as guest:
            guest.run("mkfs.ext4 -q /dev/vda && mount /dev/vda /mnt").check()
            print(guest.run("df /mnt").stdout)

    ``kind`` is "qemu", "uml" or None for what runs best here (``reason`` says which and why). ``memory`` is
    like ``"256M"``. ``files`` are programs and paths of the host to have in the guest, with the shared
    libraries they need, or a mapping from host path to guest path. ``modules`` are loaded at boot, beside
    those of the devices. ``append`` are kernel parameters and ``arguments`` the hypervisor's own.

    With ``kernel`` (and ``initrd``), or with ``firmware``, which boots from a disk, the guest is a foreign
    one: it takes no commands, and is followed by :meth:`wait_console` and :meth:`wait`. ``terminal`` puts the
    console of such a guest on a socket for :meth:`interact`. ``reboot`` lets a guest that reboots by itself
    start over; otherwise it ends.

    A guest belongs to one thread. It dies with the process that started it, however that one dies.
    """

    def __init__(
        self,
        kind: Kind | None = None,
        devices: Sequence[Attached] = (),
        *,
        memory: str | int = "256M",
        cpus: int = 1,
        files: Sequence[str | os.PathLike[str]] | Mapping[str, str] = (),
        modules: Sequence[str] = (),
        kernel: str | os.PathLike[str] | None = None,
        initrd: str | os.PathLike[str] | None = None,
        append: Sequence[str] = (),
        arguments: Sequence[str] = (),
        firmware: bool = False,
        terminal: bool = False,
        reboot: bool = False,
        boot_timeout: float | None = 60.0,
    ) -> None:
        if initrd is not None and kernel is None:
            raise UsageError("an initrd without a kernel", fix="give the kernel it belongs to")
        if firmware and kind == "uml":
            raise UsageError("User-Mode Linux has no firmware to boot a disk with", fix="use QEMU (--qemu)")
        self.devices = list(devices)
        """May be added to until the guest starts."""
        self._memory = parse_memory(memory)
        self._cpus, self._append, self._arguments, self._reboot = cpus, append, arguments, reboot
        self._files = initramfs.host_files(files)
        self._modules = tuple(modules)
        self._kernel = Path(kernel) if kernel is not None else None
        self._initrd = Path(initrd) if initrd is not None else None
        self._firmware, self._terminal, self._boot_timeout = firmware, terminal, boot_timeout
        self._wanted = kind
        self._process = Process()
        self._agent: Agent | None = None
        self._control: Qmp | None = None
        self._console_line: socket.socket | None = None
        self._console = ""

    @cached_property
    def choice(self) -> Choice:
        """The hypervisor, chosen when first asked for: devices come before."""
        return choose(self._wanted, self.devices, only_qemu=self.foreign and self._wanted is None)

    @property
    def kind(self) -> Kind:
        """ "qemu" or "uml"."""
        return self.choice.kind

    @property
    def reason(self) -> str:
        """What it runs on and why, in one line."""
        return self.choice.reason

    @property
    def foreign(self) -> bool:
        """Whether it boots a system that is not ours, and so takes no commands."""
        return self._firmware or self._kernel is not None

    @property
    def directory(self) -> Path:
        """A temporary directory that goes with the guest: the place for the sockets of its devices."""
        return self._process.directory

    @property
    def pid(self) -> int | None:
        """The hypervisor's process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The hypervisor's exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    @property
    def console(self) -> str:
        """All that the guest and its hypervisor wrote to the console so far."""
        log = self.directory / "console.log"
        with suppress(OSError):
            self._console = log.read_text(errors="replace")
        return self._console

    @property
    def qmp(self) -> Qmp:
        """QEMU's machine protocol; UsageError with User-Mode Linux."""
        if self._control is None:
            raise UsageError("only a running QEMU has a machine protocol")
        return self._control

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()
        self.close()

    def start(self) -> None:
        """Boot, until the guest takes commands (a foreign guest: until it runs)."""
        with closing(Plugs()) as plugs, self._console_on_error():
            lines = self._connect(plugs)
            argv, environment = self._command(self._setup(), lines)
            self._process.start(argv, environment, plugs.guest_ends, isolate=self.kind == "uml")
        if self._agent is not None:
            with self._console_on_error():
                self._agent.wait_ready(self._boot_timeout)

    def run(
        self,
        command: str | Sequence[str],
        *,
        check: bool = False,
        timeout: float | None = 60.0,
        stdout: Sink | None = None,
        stderr: Sink | None = None,
    ) -> Result:
        """Run a shell command, or a program with its arguments, and wait for its end.

        Output goes to ``stdout`` and ``stderr`` as it arrives when they are given, else into the result.
        Raises GuestError when the guest dies (or, with ``check``, when the status is not 0), and
        GuestTimeoutError after ``timeout`` seconds: the guest is killed then, its state being unknown.
        """
        line = command if isinstance(command, str) else shlex.join(command)
        output, errors = bytearray(), bytearray()
        with self._console_on_error():
            status = self._need_agent().run(line, (stdout or output.extend, stderr or errors.extend), timeout)
        result = Result(line, status, bytes(output), bytes(errors))
        return result.check() if check else result

    def interact(self) -> int:
        """Join the guest with our terminal: a shell in it, or a foreign guest's console; the exit status."""
        keyboard = sys.stdin.fileno()
        with self._console_on_error(), terminal.raw(keyboard):
            if self._agent is not None:
                return self._agent.shell(terminal.size(), keyboard, terminal.show)
            if self._console_line is None:
                raise UsageError("this guest has no terminal", fix="start it with terminal=True")
            terminal.bridge(self._console_line, keyboard, self._process)
        return self.status or 0

    def reboot(self, timeout: float | None = None) -> None:
        """Reboot the guest's kernel, with the same devices, and wait until it takes commands again."""
        agent = self._need_agent()
        with self._console_on_error():
            if self._control is not None:
                self._control.execute("set-action", reboot="reset")
            agent.send(b"reboot - 0\n")
            agent.wait_ready(timeout or self._boot_timeout)
            if self._control is not None and not self._reboot:
                self._control.execute("set-action", reboot="shutdown")

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the guest's own end; the hypervisor's status. GuestTimeoutError when it takes too long."""
        return self._process.wait(timeout)

    def wait_console(self, text: str, timeout: float = 60.0) -> str:
        """Wait until ``text`` is on the console, and return the whole console."""
        deadline = time.monotonic() + timeout
        with self._console_on_error():
            while text not in (console := self.console):
                if self.status is not None and text not in self.console:
                    raise GuestError(f"the guest ended without {text!r} on its console")
                if time.monotonic() > deadline:
                    raise GuestTimeoutError(f"no {text!r} on the guest's console within {timeout:g} s")
                time.sleep(POLL_SECONDS)
        return console

    def follow(self, sink: Sink) -> int:
        """Feed the console to ``sink`` until the guest ends; the hypervisor's status."""
        log = self.directory / "console.log"
        with log.open("rb") as console:
            while (status := self.status) is None:
                sink(console.read())
                time.sleep(POLL_SECONDS)
            sink(console.read())
        return status

    def kill(self) -> None:
        """Pull the plug."""
        self._process.kill()

    def close(self) -> None:
        """Shut the guest down (a foreign one is killed) and remove every trace. May be called again."""
        if self._agent is not None and self.pid is not None and self.status is None:
            with suppress(GuestError):
                self._agent.send(b"poweroff - 0\n")
                self.wait(END_SECONDS)
        self.kill()
        self._console = self.console
        for line in (self._agent, self._control, self._console_line):
            if line is not None:
                line.close()
        self._process.close()

    def _connect(self, plugs: Plugs) -> Lines:
        """Make the sockets that this guest needs."""
        control = console = None
        serial: tuple[int, ...] = ()
        if self.kind == "qemu":
            ours, control = plugs.plug()
            self._control = Qmp(ours)
        if self._terminal:
            self._console_line, console = plugs.plug()
        if not self.foreign:
            (out, out_number), (err, err_number) = plugs.plug(), plugs.plug()
            self._agent = Agent(self._process, (out, err))
            serial = (out_number, err_number)
        return Lines(str(self.directory / "console.log"), control, console, serial)

    def _setup(self) -> Setup:
        kernel, initrd = (self._kernel, self._initrd) if self.foreign else self._own_system()
        token = [f"vm_token={self._agent.token}"] if self._agent is not None else []
        return Setup(
            memory=self._memory, cpus=self._cpus, devices=self.devices, kernel=kernel, initrd=initrd,
            append=[*token, *self._append], arguments=self._arguments, reboot=self._reboot,
        )  # fmt: skip

    def _command(self, setup: Setup, lines: Lines) -> tuple[list[str], dict[str, str]]:
        if self.choice.accelerator is not None:
            return qemu.command(self.choice.program, setup, self.choice.accelerator, lines), {}
        return uml.command(str(setup.kernel), setup, lines, self.directory), uml.environment(self.directory)

    def _own_system(self) -> tuple[Path, Path]:
        found = kernels.find_uml() if self.kind == "uml" else kernels.find_qemu()
        wanted = [module for device in self.devices for module in device.modules]
        if self.kind == "qemu" and self.devices:
            wanted.insert(0, "virtio_pci")
        modules = tuple(dict.fromkeys((*wanted, *self._modules)))
        return found.image, initramfs.Initramfs(found, modules, self._files).path()

    def _need_agent(self) -> Agent:
        if self._agent is None:
            raise UsageError("this guest is not running, or is a foreign one, and takes no commands")
        return self._agent

    @contextmanager
    def _console_on_error(self) -> Iterator[None]:
        """A guest that failed is killed, and the error shows the end of its console."""
        try:
            yield
        except GuestError as error:
            self.kill()
            tail = "\n".join(_telling_lines(self.console.splitlines()))
            shown = f"{error}; its console ends:\n{tail}" if tail else str(error)
            raise type(error)(shown, fix=error.fix) from error


def _telling_lines(console: list[str]) -> list[str]:
    """The end of a console, from the kernel's panic on if it had one."""
    panics = [number for number, line in enumerate(console) if PANIC in line]
    return console[panics[-1] :][:CONSOLE_LINES] if panics else console[-CONSOLE_LINES:]
