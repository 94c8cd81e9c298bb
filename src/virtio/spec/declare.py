"""How a device type is declared: its features, its virtqueues, and what else its module holds.

A device type's module (``virtio.spec.blk``) holds plain integers named as in the specification without the
device's own prefix (``VIRTIO_BLK_T_IN`` is ``T_IN``), structures (``virtio.spec.layout``) and one
``DEVICE = DeviceType(...)``, which finds the others in the module. A comment above a structure names the
section of the chapter that the structure and those after it come from.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import NamedTuple

from virtio.spec.layout import Struct

__all__ = ["DeviceType", "Feature", "Queue"]


class Feature(int):
    """A feature bit: the bit's number, and what it stands for.

    ``needs`` names the bits it cannot be without; "A|B" is satisfied by either. ``legacy`` bits exist on the
    legacy interface only. ``needs`` holds for an offer and for an acceptance alike.
    """

    doc: str
    needs: tuple[str, ...]
    legacy: bool

    def __new__(cls, bit: int, doc: str, *, needs: tuple[str, ...] = (), legacy: bool = False) -> Feature:
        """``bit`` is the bit's number, ``doc`` what negotiating it means."""
        self = super().__new__(cls, bit)
        self.doc = doc
        self.needs = needs
        self.legacy = legacy
        return self


class Queue(NamedTuple):
    """A virtqueue, or a family of them.

    ``first`` is the first one's index, counted as if every optional queue before it existed; ``repeat`` says
    in the specification's terms how the family goes on ("" for a single queue); ``feature`` names the bit
    without which the queue does not exist.
    """

    name: str
    first: int
    repeat: str = ""
    feature: str = ""


class DeviceType:
    """A device type with a chapter in the specification.

    ``prefix`` is the specification's for its constants (``VIRTIO_BLK_``), ``groups`` titles the prefixes of
    the constants in the module (``{"T_": "request types"}``), ``config`` is the configuration space, ``more``
    names modules that hold further constants and structures, ``requires`` the features without which there is
    no such device, written as ``Feature.needs``.
    """

    def __init__(
        self,
        module: str,
        *,
        id: int,
        title: str,
        prefix: str,
        queues: tuple[Queue, ...],
        config: type[Struct] | None = None,
        groups: dict[str, str] | None = None,
        more: tuple[str, ...] = (),
        requires: tuple[str, ...] = (),
    ) -> None:
        self.module = module
        self.name = module.rpartition(".")[2]
        self.id = id
        self.title = title
        self.prefix = prefix
        self.queues = queues
        self.config = config
        self.groups = groups or {}
        self.more = more
        self.requires = requires

    @property
    def section(self) -> str:
        """The label of the chapter's section in the specification's source."""
        return f"Device Types / {self.title}"

    @property
    def features(self) -> dict[str, Feature]:
        """The device type's own feature bits by name, in the order of their numbers."""
        found = {key[2:]: value for key, value in self._names() if isinstance(value, Feature)}
        return dict(sorted(found.items(), key=lambda item: int(item[1])))

    @property
    def structures(self) -> dict[str, type[Struct]]:
        """The structures of the module by their names there, in the order of declaration."""
        return {
            key: value
            for key, value in self._names()
            if isinstance(value, type) and issubclass(value, Struct) and value is not Struct
        }

    def constants(self, group: str) -> dict[str, int]:
        """The constants of a group: ``constants("T_")`` gives ``{"IN": 0, ...}``.

        A constant belongs to the group with the longest prefix that it has.
        """
        return {key[len(group) :]: value for key, value in self._integers() if self._group(key) == group}

    @property
    def other_constants(self) -> dict[str, int]:
        """The constants that belong to no group."""
        return {key: value for key, value in self._integers() if not self._group(key)}

    def constant_name(self, group: str, value: int) -> str:
        """The name of a constant without its group's prefix, or the number in words if it has none."""
        names = (name for name, number in self.constants(group).items() if number == value)
        return next(names, f"{value:#x}")

    def _integers(self) -> list[tuple[str, int]]:
        return [(key, value) for key, value in self._names() if type(value) is int]

    def _group(self, constant: str) -> str:
        prefixes = (prefix for prefix in self.groups if constant.startswith(prefix))
        return max(prefixes, key=len, default="")

    def _names(self) -> list[tuple[str, object]]:
        names = dict(vars(sys.modules[self.module]))
        for module in self.more:
            names.update(vars(import_module(module)))
        return list(names.items())
