from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from virtio.vm import Attached, Blk, Net, programs, qemu
from virtio.vm.accelerator import Accelerator
from virtio.vm.setup import Lines, Setup

TCG = Accelerator("tcg", "")


def value(command: list[str], option: str) -> str:
    return command[command.index(option) + 1]


def test_a_guest_with_agent() -> None:
    setup = Setup(256 << 20, 2, [Blk("/s")], Path("/vmlinuz"), Path("/initrd"), ["vm_token=x"], ["-s"])
    command = qemu.command("/bin/qemu", setup, TCG, Lines("/d/console.log", 20, None, (21, 22)))
    assert value(command, "-machine") == "q35,accel=tcg,memory-backend=memory"
    assert value(command, "-object") == "memory-backend-memfd,id=memory,size=268435456,share=on"
    assert value(command, "-m") == "262144k"
    assert value(command, "-smp") == "2"
    assert value(command, "-cpu") == "max"
    assert value(command, "-append").startswith("console=ttyS0 panic=-1 quiet ")
    assert value(command, "-append").endswith(" vm_out=ttyS1 vm_err=ttyS2 vm_token=x")
    assert "socket,id=line2,fd=22" in command
    assert "isa-serial,chardev=line2,index=2,irq=5" in command
    assert "file,id=console,path=/d/console.log,append=on" in command
    assert "-no-reboot" in command
    assert command[-1] == "-s"


def test_a_guest_that_boots_from_its_disk() -> None:
    setup = Setup(256 << 20, devices=[Blk("/s", boot=True)], reboot=True)
    command = qemu.command("/bin/qemu", setup, Accelerator("kvm", ""), Lines("/log", 20, 21))
    assert not {"-kernel", "-initrd", "-append", "-no-reboot"} & set(command)
    assert "socket,id=console,fd=21,logfile=/log,logappend=on" in command
    assert value(command, "-cpu") == "host"


@pytest.mark.parametrize("accelerator", ["kvm", "tcg"])
@pytest.mark.parametrize("devices", [[Blk("/s")], [Blk("/s"), Net("/n")]])
def test_without_kvm_a_nic_has_no_msi_x(accelerator: str, devices: list[Attached]) -> None:
    setup = Setup(256 << 20, devices=devices)
    command = qemu.command("/bin/qemu", setup, Accelerator(accelerator, ""), Lines("/log", 20))
    wanted = accelerator == "tcg" and len(devices) == 2
    assert ("virtio-net-pci.vectors=0" in command) is wanted


def test_a_foreign_kernel_gets_its_own_parameters_only() -> None:
    setup = Setup(256 << 20, kernel=Path("/k"), append=["console=ttyS0"])
    command = qemu.command("/bin/qemu", setup, TCG, Lines("/log", 20))
    assert value(command, "-append") == "console=ttyS0"
    assert "-initrd" not in command


@pytest.mark.parametrize("option", ["reconnect", "reconnect-ms"])
def test_reconnection_is_asked_for_not_guessed(tmp_path: Path, option: str) -> None:
    schema = [{"name": "x", "members": [{"name": option}, {"name": "path"}]}, {"name": "y"}]
    (tmp_path / "answers").write_text(
        "".join(json.dumps(a) + "\n" for a in ({"QMP": {}}, {"return": {}}, {"return": schema}))
    )
    program = tmp_path / "qemu"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/answers\nexec cat >/dev/null\n")
    program.chmod(0o755)
    assert qemu.reconnect_option(str(program)) == option
    (tmp_path / "answers").unlink()
    assert qemu.reconnect_option(str(program)) == option, "the answer is remembered"


def test_a_qemu_that_takes_its_time_to_say_all(tmp_path: Path) -> None:
    program = tmp_path / "qemu"
    schema = '{"return": [{"name": "x", "members": [{"name": "reconnect-ms"}]}]}'
    program.write_text(
        "#!/bin/sh\n"
        "echo '{\"QMP\": {}}'; read line; echo '{\"return\": {}}'; read line\n"
        f"printf '%s' '{schema[:30]}'; sleep 0.3; echo '{schema[30:]}'; exec cat >/dev/null\n"
    )
    program.chmod(0o755)
    assert qemu.reconnect_option(str(program)) == "reconnect-ms"


@pytest.mark.peer
def test_the_installed_qemu_says_how_it_reconnects() -> None:
    program = programs.locate("qemu-system-x86_64")
    if program is None:
        pytest.skip("QEMU is not installed")
    assert qemu.reconnect_option(program) in ("reconnect", "reconnect-ms")


def test_sockets_are_handed_over_by_number() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        setup = Setup(64 << 20)
        command = qemu.command("/q", setup, TCG, Lines("/log", theirs.fileno()))
        assert value(command, "-chardev") == f"socket,id=qmp,fd={theirs.fileno()}"
