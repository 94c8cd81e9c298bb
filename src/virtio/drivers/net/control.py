"""The driver's control queue: one command at a time, each answered before the next (virtio 1.4, 5.1.6.5)."""

from __future__ import annotations

from virtio.drivers.memory import Arena, Buffer
from virtio.drivers.net.commands import Command
from virtio.drivers.queue import Request, RequestQueue, again
from virtio.errors import DeviceError, RequestFailedError
from virtio.spec import net_control as ctrl

__all__ = ["ControlQueue"]


class _Exchange(Request):
    """A command and the buffer that holds it; freed when the device and the caller are done with it."""

    __slots__ = ("buffer", "released")

    def __init__(self, buffer: Buffer) -> None:
        super().__init__()
        self.buffer = buffer
        self.released = False

    def complete(self) -> None:
        if self.released:
            self.buffer.free()

    def let_go(self) -> None:
        self.released = True
        if self.done:
            self.buffer.free()


class ControlQueue:
    """Sends commands; any thread may."""

    def __init__(self, queue: RequestQueue, arena: Arena) -> None:
        self._queue = queue
        self._arena = arena

    def run(self, command: Command, timeout: float | None) -> bytes:
        """Have a command carried out; its result. RequestFailedError if the device says no."""
        sent = command.pack()
        exchange = _Exchange(self._arena.allocate(len(sent) + 1 + command.room))
        try:
            exchange.buffer.view[: len(sent)] = sent
            self._send(exchange, len(sent), timeout)
            if exchange.error is not None:
                raise again(exchange.error)
            return self._result(command, bytes(exchange.buffer.view[len(sent) :][: exchange.written]))
        finally:
            exchange.let_go()

    def _send(self, exchange: _Exchange, length: int, timeout: float | None) -> None:
        readable = (exchange.buffer.slice(0, length),)
        writable = (exchange.buffer.slice(length, len(exchange.buffer) - length),)
        try:
            while not self._queue.submit(exchange, readable, writable):
                self._queue.wait_for_room(timeout)
        except BaseException:
            exchange.done = True  # it never reached the device
            raise
        self._queue.wait_until(lambda: exchange.done, timeout)

    @staticmethod
    def _result(command: Command, answer: bytes) -> bytes:
        if not answer or answer[0] not in (ctrl.OK, ctrl.ERR):
            raise DeviceError(f"the control queue answers {answer.hex() or 'nothing'}")
        if answer[0] == ctrl.ERR:
            raise RequestFailedError(
                f"the device refuses command {command.command} of class {command.class_}"
            )
        return answer[1:]
