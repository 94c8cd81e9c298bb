import os
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from virtio.cli.app import root


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_every_shell(shell):
    result = CliRunner().invoke(root, ["completion", shell])
    assert result.exit_code == 0
    assert f"_VIRTIO_COMPLETE={shell}_complete" in result.stdout
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=result.stdout, text=True, check=True)


def complete(line: str) -> list[str]:
    words = line.split(" ")
    environment = {"_VIRTIO_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", "from virtio.cli import main; main()"],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    return [entry.partition(",")[2] for entry in done.stdout.split()]


def test_commands_devices_and_codes_are_completed():
    assert complete("virtio s") == ["serve", "spec", "switch"]
    assert complete("virtio spec de") == ["decode", "device", "devices"]
    assert complete("virtio spec device b") == ["blk", "balloon", "bluetooth"]
    assert complete("virtio explain E-PRO") == ["E-PROTOCOL"]
    assert complete("virtio spec --j") == ["--json"]


def test_links_and_their_filters_are_completed():
    assert complete("virtio net s") == ["stream:", "switch:"]
    assert complete("virtio net --link us") == ["user:"]
    assert complete("virtio net tap:vm0?pc") == ["tap:vm0?pcap=", "tap:vm0?pcap-wire="]
    assert complete("virtio net tap:vm0?pcap=a&los") == ["tap:vm0?pcap=a&loss="]
    assert complete("virtio net tap:vm0") == complete("virtio net tap:vm0?loss=") == []


def test_verbs_of_disks_and_nics_are_completed():
    assert complete("virtio io S re") == ["read", "receive"]
    assert complete("virtio io S send --re") == ["--read"]
