"""The guest's keeper: a small process between launcher and hypervisor, so that nothing outlives either.

Run as a program, ``keeper.py FD``, with nothing imported but the standard library. FD is a SOCK_SEQPACKET
socket to the launcher; a message is a JSON object, the guest's sockets come along with the request.

::

    keeper -> launcher   {"directory": PATH}                the guest's own temporary directory
    launcher -> keeper   {"argv", "environment", "first_fd", "isolate"} + fds
    keeper -> launcher   {"pid": N}                          the hypervisor runs
    keeper -> launcher   {"status": N}                       it ended; negative: by that signal

Whoever dies first:

- the launcher, however it dies: its end of the socket closes, the keeper kills the guest and removes the
  directory;
- the hypervisor: the keeper reports it;
- the keeper: the kernel kills the hypervisor (parent-death signal), the launcher sees its socket close and
  removes the directory.

User-Mode Linux is a process per guest process, so it runs in a PID namespace of its own, where the machine
allows that: the namespace's first process, a copy of the keeper, only waits for it, and when that one ends or
is killed, the kernel kills the rest. Elsewhere its process group has to do.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import Any, NoReturn

CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
PR_SET_PDEATHSIG = 1
MESSAGE_LIMIT = 1 << 20
FD_LIMIT = 16
SIGNALLED = 128
"""Exit statuses from here tell of a signal, as a shell's do."""


def main() -> None:
    """Serve one launcher and one guest."""
    launcher = socket.socket(fileno=int(sys.argv[1]))
    launcher.set_inheritable(False)  # Whoever held it would hide our end from the launcher.
    signalled, told = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(told)  # A signal just before a poll would be heard of after it.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(1))
    directory = make_directory()
    try:
        # Losing the launcher is an order to clean up.
        with suppress(BrokenPipeError, ConnectionResetError):
            serve(launcher, signalled, directory)
    finally:
        remove(directory)


def serve(launcher: socket.socket, signalled: int, directory: str) -> None:
    """Start what the launcher asks for, and return when guest and launcher are both done."""
    send(launcher, directory=directory)
    waiting = select.poll()
    waiting.register(signalled, select.POLLIN)
    waiting.register(launcher, select.POLLIN)
    waiting.poll()
    data, fds, _, _ = socket.recv_fds(launcher, MESSAGE_LIMIT, FD_LIMIT)
    if not data:
        return
    pid = start(json.loads(data), fds, directory)
    try:
        send(launcher, pid=pid)
        for fd in fds:
            os.close(fd)
        watch(launcher, waiting, pid)
    finally:
        end(pid)


def watch(launcher: socket.socket, waiting: select.poll, pid: int) -> None:
    """Until the launcher goes: report the guest's end."""
    ended = os.pidfd_open(pid)
    waiting.register(ended, select.POLLIN)
    while launcher.fileno() not in (ready := [fd for fd, _ in waiting.poll()]):
        if ended in ready:
            waiting.unregister(ended)
            found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            assert found is not None
            send(launcher, status=exit_status(found))


def exit_status(found: os.waitid_result) -> int:
    """The status, or the negative number of the signal, also where a namespace's first process tells it."""
    if found.si_code != os.CLD_EXITED:
        return -found.si_status
    return found.si_status if found.si_status < SIGNALLED else SIGNALLED - found.si_status


def end(pid: int) -> None:
    """Kill the guest with all its processes; until it is waited for, its number stays its own."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def start(request: dict[str, Any], fds: list[int], directory: str) -> int:
    """Fork the hypervisor and return its process id."""
    libc = ctypes.CDLL(None, use_errno=True)
    isolated = request["isolate"] and isolate(libc)
    keeper_lives, lifeline = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(lifeline)
            tie(libc, keeper_lives)
            # The first process of a namespace cannot abort, so it is not the hypervisor itself.
            if isolated and (hypervisor := os.fork()):
                stand_by(hypervisor)
            become(request, fds, directory)
        except BaseException as error:
            os.write(2, f"cannot start {request['argv'][0]}: {error}\n".encode())
        os._exit(127)
    os.close(keeper_lives)
    return pid


def isolate(libc: ctypes.CDLL) -> bool:
    """Let the next child be the first process of a PID namespace; False without the right to."""
    if libc.unshare(CLONE_NEWPID) == 0:
        return True
    # Some systems allow a user namespace and then refuse its maps, so a child tries first.
    child = os.fork()
    if child == 0:
        os._exit(0 if enter_user_namespace(libc) else 1)
    return os.waitpid(child, 0)[1] == 0 and enter_user_namespace(libc)


def enter_user_namespace(libc: ctypes.CDLL) -> bool:
    """With a PID namespace for the children; we stay who we are in it."""
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0:
        return False
    maps = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
    try:
        for name, text in maps.items():
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    except OSError:
        return False
    return True


def tie(libc: ctypes.CDLL, keeper_lives: int) -> None:
    """Die with the keeper, as the head of a process group."""
    os.setpgid(0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if select.select([keeper_lives], [], [], 0)[0]:
        os._exit(1)  # The keeper died before the kernel was told to tell us.


def stand_by(hypervisor: int) -> NoReturn:
    """As the first process of a namespace: reap what dies, and end as the hypervisor ends."""
    ended = 0
    while ended != hypervisor:
        ended, status = os.wait()
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else SIGNALLED - code)


def become(request: dict[str, Any], fds: list[int], directory: str) -> NoReturn:
    """In the child: turn into the hypervisor. Its output goes to the console's log."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    log = os.open(os.path.join(directory, "console.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for index, fd in enumerate(fds):
        os.set_inheritable(fd, False)
        os.dup2(fd, request["first_fd"] + index)
    os.execve(request["argv"][0], request["argv"], request["environment"])


def make_directory() -> str:
    """A directory of our own below TMPDIR; the name is unique because making it would fail otherwise."""
    path = os.path.join(os.environ.get("TMPDIR") or "/tmp", f"pyvirtio-{os.urandom(6).hex()}")
    os.mkdir(path, 0o700)
    return path


def remove(directory: str) -> None:
    """Remove the directory and all in it; links are not followed."""
    for folder, folders, files in os.walk(directory, topdown=False):
        for name in files:
            os.unlink(os.path.join(folder, name))
        for name in folders:
            path = os.path.join(folder, name)
            (os.unlink if os.path.islink(path) else os.rmdir)(path)
    os.rmdir(directory)


def send(launcher: socket.socket, **message: Any) -> None:
    """Send one message."""
    launcher.send(json.dumps(message).encode())


if __name__ == "__main__":
    main()
