"""Virtio, both sides: write a device once and serve it to any hypervisor, drive any device from Python.

::

    class Upper(virtio.Device):
        device_id = 42
        queues = (virtio.Queue("requests", size=256),)

        def requests(self, request: virtio.Request) -> None:
            request.write(bytes(request.readable).upper())

    virtio.serve(Upper(), "/tmp/upper.sock")

What is named here loads when it is first used, so ``import virtio`` costs next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers know the name; importing typing would cost more than all the rest
if TYPE_CHECKING:
    from typing import Any

    from virtio import device, drivers, errors, memory, spec, testing, virtqueue, vm
    from virtio.device import ConfigSpace, Device, Queue, Request
    from virtio.errors import VirtioError
    from virtio.service import serve, serving

__all__ = [
    "ConfigSpace",
    "Device",
    "Queue",
    "Request",
    "VirtioError",
    "__version__",
    "device",
    "devices",
    "drivers",
    "errors",
    "memory",
    "serve",
    "serving",
    "spec",
    "storage",
    "testing",
    "vhost_user",
    "virtqueue",
    "vm",
]

# name -> the module it comes from; the other names are modules themselves
_SOURCES = {
    "ConfigSpace": "virtio.device",
    "Device": "virtio.device",
    "Queue": "virtio.device",
    "Request": "virtio.device",
    "VirtioError": "virtio.errors",
    "serve": "virtio.service",
    "serving": "virtio.service",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("pyvirtio")
    elif name in _SOURCES:
        value = getattr(import_module(_SOURCES[name]), name)
    elif name in __all__:
        value = import_module(f"virtio.{name}")
    else:
        raise AttributeError(f"module 'virtio' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
