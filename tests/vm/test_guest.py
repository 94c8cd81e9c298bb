"""Real guests. Each boot takes about two seconds, so a guest without faults is shared by many tests."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from virtio import vm
from virtio.devices.blk import Blk
from virtio.errors import GuestError, GuestTimeoutError, HostError, UsageError
from virtio.service import serving
from virtio.storage import open_storage
from virtio.vm import kernels, programs
from virtio.vm.choice import Kind

pytestmark = pytest.mark.guest

PROGRAMS = {"qemu": "qemu-system-x86_64", "uml": "linux.uml"}
KINDS: list[Kind] = ["uml", "qemu"]


def need(kind: Kind) -> Kind:
    if programs.locate(PROGRAMS[kind]) is None:
        pytest.skip(f"{PROGRAMS[kind]} is not installed")
    return kind


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return need(request.param)


@pytest.fixture(scope="module", params=KINDS)
def guest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[vm.Guest]:
    shared = tmp_path_factory.mktemp("shared")
    (shared / "note").write_text("from the host")
    files = {str(shared): "/data", "/bin/bash": "/bin/bash"}
    with vm.Guest(need(request.param), files=files) as found:
        yield found


def test_output_errors_and_status_come_apart(guest: vm.Guest) -> None:
    result = guest.run("echo out; echo err >&2; exit 3")
    assert (result.status, result.stdout, result.stderr) == (3, "out\n", "err\n")


def test_output_may_be_anything(guest: vm.Guest) -> None:
    every = bytes(range(256))
    script = "".join(f"\\{byte:03o}" for byte in every)
    assert guest.run(["printf", script]).output == every
    assert guest.run("true").output == b""


def test_much_output_is_complete(guest: vm.Guest) -> None:
    result = guest.run("seq 1 20000; seq 1 2000 >&2")
    assert result.stdout.split() == [str(n) for n in range(1, 20001)]
    assert result.stderr.split() == [str(n) for n in range(1, 2001)]


def test_output_streams(guest: vm.Guest) -> None:
    arrived: list[tuple[bytes, float]] = []
    guest.run("echo one; sleep 0.4; echo two", stdout=lambda data: arrived.append((data, time.monotonic())))
    assert b"".join(data for data, _ in arrived) == b"one\ntwo\n"
    assert arrived[-1][1] - arrived[0][1] > 0.2


def test_long_commands_and_odd_words(guest: vm.Guest) -> None:
    assert guest.run(["echo", "a  b", "$HOME", "it's", "größe"]).stdout == "a  b $HOME it's größe\n"
    words = "x" * 30_000
    assert guest.run(f"echo {words} | wc -c").stdout.strip() == "30001"
    with pytest.raises(UsageError, match="too long"):
        guest.run(words * 3)


def test_files_of_the_host(guest: vm.Guest) -> None:
    assert guest.run("cat /data/note", check=True).stdout == "from the host"
    assert "GNU bash" in guest.run("bash --version", check=True).stdout


def test_the_system_is_tidy(guest: vm.Guest) -> None:
    result = guest.run("mount | cut -d' ' -f3 | sort; env | grep -c vm_")
    assert {"/dev", "/dev/pts", "/dev/shm", "/proc", "/run", "/sys"} <= set(result.stdout.split())
    assert result.stdout.endswith("\n0\n")
    assert guest.run("read x; echo $?").stdout == "1\n", "standard input is empty"


def test_kernel_messages_stay_on_the_console(guest: vm.Guest) -> None:
    assert guest.run("echo '<0>a word of the kernel' >/dev/kmsg").output == b""
    guest.wait_console("a word of the kernel", 5)


def test_a_failed_command_is_named(guest: vm.Guest) -> None:
    with pytest.raises(GuestError, match="'ls /nothing' gave status"):
        guest.run("ls /nothing", check=True)
    assert guest.run("true").status == 0, "the guest lives on"


def test_qemu_answers_on_its_control_socket(guest: vm.Guest) -> None:
    if guest.kind == "qemu":
        assert guest.qmp.execute("query-status")["status"] == "running"
    else:
        with pytest.raises(UsageError, match="machine protocol"):
            _ = guest.qmp


def test_a_disk_of_another_back_end(
    kind: Kind, storage_daemon: Callable[[Path], str], image: Path
) -> None:  # fmt: skip
    with vm.Guest(kind, [vm.Blk(storage_daemon(image))], files=["mkfs.ext4", "e2fsck"]) as guest:
        guest.run("mkfs.ext4 -q /dev/vda && mount /dev/vda /mnt && echo hello >/mnt/word", check=True)
        guest.run("umount /mnt && e2fsck -fn /dev/vda", check=True)
        assert b"hello\n" in image.read_bytes()
    assert guest.status == 0


@pytest.mark.parametrize(
    "options", [{"packed": True}, {"generation": "legacy"}, {"num_queues": 2, "reconnect": 1}]
)
def test_a_disk_as_qemu_can_show_it(options: dict[str, object], tmp_path: Path) -> None:
    path = str(tmp_path / "disk.sock")
    storage = open_storage("mem:1M")
    storage.write(0, memoryview(b"content"))
    with serving(Blk(storage, num_queues=2), path):
        disk = vm.Blk(path, **options)  # type: ignore[arg-type]
        with vm.Guest(need("qemu"), [disk], cpus=2) as guest:
            assert guest.run("head -c 7 /dev/vda", check=True).stdout == "content"
            features = guest.run("cat /sys/bus/virtio/devices/virtio0/features").stdout
            assert (features[34] == "1") == options.get("packed", False)
            assert (features[32] == "1") == (options.get("generation") != "legacy")
            queues = guest.run("ls /sys/block/vda/mq").stdout.split()
            assert len(queues) == options.get("num_queues", len(queues))
    storage.close()


def test_a_drive_of_qemus_own(image: Path) -> None:
    image.write_bytes(b"plain".ljust(1 << 20, b"\0"))
    with vm.Guest(need("qemu"), [vm.Drive(str(image))]) as guest:
        assert guest.run("head -c 5 /dev/vda", check=True).stdout == "plain"


def test_reboot(kind: Kind) -> None:
    with vm.Guest(kind) as guest:
        guest.run("touch /before", check=True)
        guest.reboot()
        assert guest.run("test -e /before").status == 1
        assert guest.console.count("reboot:") == 1
    assert guest.status == 0


def test_a_guest_that_panics_is_reported_with_its_console(kind: Kind) -> None:
    with vm.Guest(kind) as guest:
        directory = guest.directory
        with pytest.raises(GuestError, match=r"(?s)ended by itself.*sysrq triggered crash"):
            guest.run("echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 20", timeout=20)
        assert guest.status is not None
    assert not directory.exists()


def test_a_killed_hypervisor_is_noticed_at_once(kind: Kind) -> None:
    with vm.Guest(kind) as guest:
        pid = guest.pid
        assert pid is not None
        killer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
        killer.start()
        started = time.monotonic()
        with pytest.raises(GuestError, match="killed by signal 9"):
            guest.run("sleep 60")
        assert time.monotonic() - started < 20
        with pytest.raises(GuestError):
            guest.run("true")


def test_a_command_that_does_not_end(kind: Kind) -> None:
    with vm.Guest(kind) as guest:
        with pytest.raises(GuestTimeoutError, match=r"'yes' did not end within 0\.5 s"):
            guest.run("yes", timeout=0.5)
        assert guest.status is not None, "its state is unknown, so it is killed"


def test_a_module_that_is_missing(kind: Kind) -> None:
    with (
        pytest.raises(HostError, match="has no module no_such_module"),
        vm.Guest(kind, modules=["no-such-module"]),
    ):
        pass


def test_a_boot_that_fails_shows_the_console() -> None:
    with pytest.raises(GuestError, match=r"(?s)ended by itself.*No such file"):  # noqa: SIM117
        with vm.Guest(need("qemu"), [vm.Blk("/no/such.sock")]):
            pass


def test_a_boot_that_takes_too_long(kind: Kind) -> None:
    with (
        pytest.raises(GuestTimeoutError, match=r"did not come up within 0\.1 s"),
        vm.Guest(kind, boot_timeout=0.1),
    ):
        pass


def test_the_guest_dies_with_its_launcher(kind: Kind) -> None:
    script = (
        "import sys, time; from virtio import vm\n"
        f"with vm.Guest({kind!r}, append=['mark={os.getpid()}']) as guest:\n"
        "    print(guest.directory, flush=True); time.sleep(100)\n"
    )
    launcher = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    with launcher:
        assert launcher.stdout is not None
        directory = launcher.stdout.readline().strip()
        assert directory_users(directory)
        launcher.kill()
    deadline = time.monotonic() + 5
    while directory_users(directory) or Path(directory).exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def directory_users(directory: str) -> list[int]:
    """Processes that have a file in ``directory`` open, as each process of a guest has its console's log."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            opened = [os.readlink(fd) for fd in (entry / "fd").iterdir()]
        except OSError:
            continue
        if any(path.startswith(directory) for path in opened):
            found.append(int(entry.name))
    return found


# Firmware loads the first sector to 0x7c00: write "Booted" to the first serial port, then halt.
BOOT_SECTOR = bytes.fromhex("31c08ed8be167cbaf803ac84c07403eeebf8f4ebfd90") + b"Booted\r\n\0"


def test_firmware_boots_from_the_disk(storage_daemon: Callable[[Path], str], image: Path) -> None:
    image.write_bytes(BOOT_SECTOR.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    disk = vm.Blk(storage_daemon(image), boot=True)
    with vm.Guest(need("qemu"), [disk], firmware=True) as guest:
        guest.wait_console("Booted", 20)
        with pytest.raises(UsageError, match="foreign"):
            guest.run("true")
        guest.kill()
        with pytest.raises(GuestError, match="ended without 'more'"):
            guest.wait_console("more", 5)


def test_a_foreign_kernel_and_its_end() -> None:
    kernel = kernels.find_qemu().image
    with vm.Guest(need("qemu"), kernel=kernel, append=["console=ttyS0", "panic=-1", "quiet"]) as guest:
        assert guest.wait(30) == 0, "without a root file system it panics, and a reboot is its end"
        assert "Unable to mount root fs" in guest.console


@pytest.mark.parametrize(
    "arguments", [{"initrd": "/i"}, {"kind": "uml", "firmware": True}, {"memory": "lots"}]
)
def test_what_makes_no_sense(arguments: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        vm.Guest(**arguments)  # type: ignore[arg-type]


def test_a_shell_on_our_terminal(kind: Kind) -> None:
    script = f"from virtio import vm\nwith vm.Guest({kind!r}) as guest: print('status', guest.interact())"
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", script])
    try:
        seen = read_until(terminal, b"# ")
        os.write(terminal, b"tty; stty size; sleep 100\r")
        seen = read_until(terminal, b"sleep 100\r\n") + read_until(terminal, b"24 80")
        assert b"/dev/tty" in seen
        time.sleep(0.3)
        os.write(terminal, b"\x03")  # ^C ends the command in the guest, not us.
        read_until(terminal, b"# ")
        os.write(terminal, b"exit 5\r")
        read_until(terminal, b"status 5")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(terminal)


def read_until(terminal: int, text: bytes) -> bytes:
    seen = b""
    while text not in seen:
        try:
            seen += os.read(terminal, 4096)
        except OSError:
            raise AssertionError(f"no {text!r} before the end, but {seen!r}") from None
    return seen
