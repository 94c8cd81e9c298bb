"""A device by name: ``FILE.py:Class`` or ``module:Class``, with the user's own traceback when it fails."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from traceback import format_exception
from types import ModuleType, TracebackType
from typing import Any

from virtio.device import Device
from virtio.errors import DeviceCodeError, UsageError

__all__ = ["Target"]


class Target:
    """Where a device is found; `load` makes it, anew each time.

    UsageError for a name that is none, and for what cannot be found there; DeviceCodeError when the user's
    code raises an exception.
    """

    def __init__(self, text: str) -> None:
        self.source, colon, self.name = text.rpartition(":")
        if not colon or not self.source or not self.name:
            raise UsageError(f"{text!r} names no device", fix="write FILE.py:Class or package.module:Class")

    @property
    def is_file(self) -> bool:
        """Whether it is a file rather than a module that is installed."""
        return self.source.endswith(".py") or "/" in self.source

    @property
    def file(self) -> Path | None:
        """The file that its code is in, if there is one."""
        if self.is_file:
            return Path(self.source)
        found = getattr(sys.modules.get(self.source), "__file__", None)
        return Path(found) if found else None

    def load(self) -> Device:
        """Run the code as it is now and make the device: the class is called without arguments."""
        module = self._module()
        if not hasattr(module, self.name):
            raise UsageError(f"{self.source} has no {self.name}", fix=_hint(module))
        found = getattr(module, self.name)
        if isinstance(found, type) and issubclass(found, Device):
            found = _guarded(found, f"{self.name}()")
        if not isinstance(found, Device):
            what = "a class" if isinstance(found, type) else f"a {type(found).__name__}"
            raise UsageError(
                f"{self.name} in {self.source} is {what}, not a virtio.Device", fix=_hint(module)
            )
        found.check()
        return found

    def _module(self) -> ModuleType:
        if self.is_file:
            return self._run_file(Path(self.source))
        if not all(part.isidentifier() for part in self.source.split(".")):
            raise UsageError(f"{self.source} is neither a file of Python nor the name of a module")
        sys.path.insert(0, "")
        try:
            if self.source in sys.modules:
                again: ModuleType = _guarded(lambda: importlib.reload(sys.modules[self.source]), self.source)
                return again
            new: ModuleType = _guarded(lambda: importlib.import_module(self.source), self.source)
            return new
        except DeviceCodeError as error:
            cause = error.__cause__
            if isinstance(cause, ModuleNotFoundError) and f"{self.source}.".startswith(f"{cause.name}."):
                raise UsageError(
                    f"there is no module {cause.name}", fix="a file is written with its .py: FILE.py:Class"
                ) from None
            raise
        finally:
            sys.path.remove("")

    def _run_file(self, path: Path) -> ModuleType:
        if not path.is_file():
            raise UsageError(f"{path} " + ("is not a file" if path.exists() else "does not exist"))
        name = path.stem
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise UsageError(f"{path} is not Python", fix="write FILE.py:Class")
        module = importlib.util.module_from_spec(spec)
        folder = str(path.resolve().parent)
        if folder not in sys.path:
            sys.path.insert(0, folder)  # the modules beside it, as `python FILE.py` has them
        before = sys.modules.get(name)
        sys.modules[name] = module
        try:
            # Not by the loader, which takes a file changed within the same second for the old one.
            _guarded(lambda: exec(compile(path.read_bytes(), str(path), "exec"), vars(module)), str(path))
        except BaseException:
            del sys.modules[name]
            if before is not None:
                sys.modules[name] = before
            raise
        return module


def _guarded(call: Any, what: str) -> Any:
    """Call the user's code. What it raises is said with a traceback that begins there."""
    try:
        return call()
    except (Exception, SystemExit) as error:
        trace = "".join(format_exception(type(error), error, _from_user(error.__traceback__))).rstrip()
        raise DeviceCodeError(f"{what} raised {type(error).__name__}:\n{trace}") from error


def _from_user(trace: TracebackType | None) -> TracebackType | None:
    """Leave out our own frames and the import system's."""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file != __file__ and "importlib" not in file:
            return trace
        trace = trace.tb_next
    return None


def _hint(module: ModuleType) -> str:
    names = [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Device) and value.__module__ == module.__name__
    ]
    return f"it has: {', '.join(names)}" if names else "derive a class from virtio.Device there"
