"""The frame: what commands raise becomes an exit status and a message, never a traceback."""

import os
import signal
import subprocess
import sys
import time
from importlib import import_module

import click
import pytest
from click.testing import CliRunner

from virtio import errors
from virtio.cli import app
from virtio.cli.command import Command


def virtio(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "virtio.cli", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=60,
    )


@pytest.fixture
def frob(monkeypatch):
    """Makes a command `virtio frob` of a function."""

    def install(function, **settings):
        module = type(sys)("virtio.cli.frob")
        module.command = click.command(cls=Command, **settings)(function)
        monkeypatch.setitem(sys.modules, "virtio.cli.frob", module)
        monkeypatch.setitem(app.COMMANDS, "frob", "Frob.")

    return install


def raises(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (errors.VirtioError("it broke"), 1, "virtio: it broke [E-FAIL]\n"),
        (errors.UsageError("no", fix="say yes"), 2, "virtio: no [E-USAGE]\n  fix: say yes\n"),
        (errors.ProtocolError("too short"), 3, "virtio: too short [E-PROTOCOL]\n"),
        (errors.StorageError("locked"), 4, "virtio: locked [E-STORAGE]\n"),
        (FileNotFoundError(2, "No such file", "/x"), 4, "virtio: /x: No such file [E-HOST]\n"),
        (OSError("odd"), 4, "virtio: odd [E-HOST]\n"),
        (
            click.BadParameter("bad"),
            2,
            "Usage: virtio frob [OPTIONS]\nTry 'virtio frob --help' for help.\n\nError: Invalid value: bad\n",
        ),
        (KeyboardInterrupt(), 130, "\n"),
    ],
)
def test_every_error_has_its_status_and_message(frob, capfd, error, status, message):
    frob(raises(error))
    assert app.run(["frob"]) == status
    captured = capfd.readouterr()
    assert captured.err == message
    assert captured.out == ""


def test_a_bug_is_called_one(frob, capfd, monkeypatch):
    frob(raises(ZeroDivisionError("by nought")))
    monkeypatch.delenv("VIRTIO_DEBUG", raising=False)
    assert app.run(["frob"]) == 1
    talk = capfd.readouterr().err
    assert "this is a bug in pyvirtio: ZeroDivisionError: by nought" in talk
    assert "VIRTIO_DEBUG=1" in talk
    assert "Traceback" not in talk
    monkeypatch.setenv("VIRTIO_DEBUG", "1")
    assert app.run(["frob"]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_a_command_may_choose_its_status(frob):
    frob(lambda: 7)
    assert app.run(["frob"]) == 7


def test_options_are_environment_variables_and_the_help_says_so(frob, capfd, monkeypatch):
    frob(
        lambda socket_path: click.echo(socket_path),
        params=[click.Option(["--socket-path"])],
        examples=[("virtio frob --socket-path s", "frob it")],
    )
    monkeypatch.setenv("VIRTIO_FROB_SOCKET_PATH", "/run/frob")
    assert app.run(["frob"]) == 0
    assert capfd.readouterr().out == "/run/frob\n"
    assert app.run(["frob", "--help"]) == 0
    text = capfd.readouterr().out
    assert "--socket-path is VIRTIO_FROB_SOCKET_PATH" in " ".join(text.split())
    assert "virtio frob --socket-path s" in text


@pytest.mark.parametrize("name", app.COMMANDS)
def test_every_command_keeps_its_promise(name):
    command = import_module(f"virtio.cli.{name.replace('-', '_')}").command
    assert (command.help or "").partition("\n")[0] == app.COMMANDS[name]
    result = CliRunner().invoke(app.root, [name, "--help"])
    assert result.exit_code == 0
    assert "Examples:" in result.stdout


def test_help_imports_no_command():
    code = (
        "import sys; from virtio.cli import app; app.run(['--help']); "
        "print(*(m for m in sys.modules if m.startswith('virtio.')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Commands:" in done.stdout
    ours = {name for name in done.stderr.split() if not name.startswith("virtio.errors")}
    assert ours == {"virtio.cli", "virtio.cli.app", "virtio.cli.output"}


def test_an_unknown_command_and_an_unknown_flag_are_usage_errors():
    for arguments in (["frobnicate"], ["spec", "--frobnicate"]):
        done = virtio(*arguments)
        assert done.returncode == 2
        assert done.stdout == ""
        assert "No such" in done.stderr


def test_version():
    done = virtio("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("virtio 0.")


def test_a_reader_that_leaves_is_no_error_worth_a_word():
    code = "from virtio.cli import main; import sys; sys.argv[1:] = ['spec', 'device', 'crypto']; main()"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 1


def test_interrupt_ends_quietly():
    code = (
        "import sys, time, click; from virtio.cli import app\n"
        "def wait(): print('ready', flush=True); time.sleep(60)\n"
        "module = type(sys)('virtio.cli.wait'); module.command = click.command()(wait)\n"
        "sys.modules['virtio.cli.wait'] = module; app.COMMANDS['wait'] = ''\n"
        "sys.exit(app.run(['wait']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        _, talk = child.communicate(timeout=20)
    assert child.returncode == 130
    assert talk.strip() == b""


def test_no_color_is_obeyed(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    result = CliRunner().invoke(app.root, ["doctor"], color=True)
    assert "\x1b[" not in result.stdout
    monkeypatch.delenv("NO_COLOR")
    result = CliRunner().invoke(app.root, ["doctor"], color=True)
    assert "\x1b[" in result.stdout
