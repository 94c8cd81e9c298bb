from __future__ import annotations

from pathlib import Path

import pytest

from virtio.errors import HostError, UsageError
from virtio.vm import Blk, Rng, choice
from virtio.vm.accelerator import Accelerator
from virtio.vm.choice import choose
from virtio.vm.kernels import Kernel
from virtio.vm.modules import ModuleTree


class Machine:
    """What is installed on the machine that the choice is made for."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.qemu, self.uml, self.kvm = True, True, False
        patch.setattr(choice.qemu, "program", lambda: self.need(self.qemu, "qemu"))
        patch.setattr(choice.accelerator, "choose", lambda program: self.accelerator())
        patch.setattr(
            choice.kernels, "find_uml",
            lambda: Kernel(Path(self.need(self.uml, "uml")), ModuleTree(Path("/"))),
        )  # fmt: skip

    def need(self, installed: bool, name: str) -> str:
        if not installed:
            raise HostError(f"no {name}")
        return f"/bin/{name}"

    def accelerator(self) -> Accelerator:
        return Accelerator("kvm", "KVM, it runs") if self.kvm else Accelerator("tcg", "TCG, because slow")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_kvm_is_best(machine: Machine) -> None:
    machine.kvm = True
    found = choose(None, [])
    assert (found.kind, found.program, found.reason) == ("qemu", "/bin/qemu", "QEMU with KVM, it runs")


def test_uml_is_next(machine: Machine) -> None:
    found = choose(None, [Blk("/s")])
    assert (found.kind, found.program) == ("uml", "/bin/uml")
    assert found.reason == "User-Mode Linux, which starts faster than TCG, because slow"


def test_qemu_for_what_uml_cannot_do(machine: Machine) -> None:
    assert choose(None, [Rng("/s")]).reason == "QEMU with TCG, because slow"
    assert choose(None, [Blk("/s", packed=True)]).kind == "qemu"
    assert choose(None, [], only_qemu=True).kind == "qemu"


def test_what_is_there(machine: Machine) -> None:
    machine.uml = False
    assert choose(None, []).kind == "qemu"
    machine.uml, machine.qemu = True, False
    assert choose(None, []).reason == "User-Mode Linux, because no qemu"
    with pytest.raises(HostError, match="no qemu"):
        choose(None, [Rng("/s")])


def test_what_was_asked_for(machine: Machine) -> None:
    machine.kvm = True
    assert choose("uml", []).kind == "uml"
    assert choose("qemu", []).kind == "qemu"
    with pytest.raises(UsageError, match="'xen' is no kind of guest"):
        choose("xen", [])  # type: ignore[arg-type]
