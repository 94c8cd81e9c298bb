"""The last act: two Linux guests talk to each other, through NICs and a switch of ours."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack

from virtio import vm
from virtio.demo.act import Act, binary_size
from virtio.demo.stage import Stage
from virtio.demo.traffic import Traffic
from virtio.devices.net import Net
from virtio.errors import DeviceError
from virtio.service import serving
from virtio.vm.choice import Kind

__all__ = ["network_act"]

SWITCH = "switch:demo"
MACS = ("52:54:00:00:00:01", "52:54:00:00:00:02")
ADDRESSES = ("192.0.2.1", "192.0.2.2")
PINGS = 5
FILE_SIZE = 32 << 20
FETCH_SECONDS = 120.0

SERVE = f"mkdir /srv && head -c {FILE_SIZE} /dev/urandom >/srv/file && httpd -h /srv && sha256sum </srv/file"

FETCH = """
now() { awk '{ printf "%d", $1 * 100 }' /proc/uptime; }
began=$(now) fetched=0
while [ $(($(now) - began)) -lt SPAN ]; do
    wget -q -O /tmp/file http://ADDRESS/file || exit
    fetched=$((fetched + 1))
done
echo $fetched $(($(now) - began))
sha256sum </tmp/file
"""
"""Fetches the file for SPAN hundredths of a second: how often, in how many of them, and what came last."""


def network_act(stage: Stage, number: int, *, kind: Kind | None = None, seconds: float = 1.5) -> Act:
    """Boot two guests of ``kind`` (None: what runs best here) on one switch; a transfer takes ``seconds``."""
    act = Act("network", "Two Linux guests talk, through NICs and a switch served from Python")
    return act.play(stage, number, lambda act, stage: _perform(act, stage, kind, seconds))


def _perform(act: Act, stage: Stage, kind: Kind | None, seconds: float) -> None:
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="pyvirtio-demo-"))
        nics, guests = [], []
        for number, mac in enumerate(MACS, start=1):
            socket = f"{directory}/nic{number}.sock"
            nics.append(stack.enter_context(Net(f"{SWITCH}?port=guest{number}", mac=mac)))
            stack.enter_context(serving(nics[-1], socket))
            guests.append(vm.Guest(kind, [vm.Net(socket, mac=mac)]))
        began = time.monotonic()
        for number, guest in enumerate(guests, start=1):
            stage.working("guests", f"booting number {number}, {guest.reason}")
            stack.enter_context(guest)
        _booted(act, stage, guests, time.monotonic() - began)
        traffic = Traffic(*nics)
        _ping(act, stage, guests[0])
        _transfer(act, stage, guests, seconds)
        text, figures = traffic.report()
        act.found(stage, "exchanged", text, **figures)


def _booted(act: Act, stage: Stage, guests: Sequence[vm.Guest], seconds: float) -> None:
    release = guests[0].run("uname -r", check=True).stdout.strip()
    text = f"two, of Linux {release}, up in {seconds:.1f} s on {guests[0].reason}"
    act.found(stage, "guests", text, network_boot_seconds=seconds)
    for guest, mac, address in zip(guests, MACS, ADDRESSES, strict=True):
        found = guest.run("cat /sys/class/net/eth0/address", check=True).stdout.strip()
        if found != mac:
            raise DeviceError(f"a guest's NIC has the address {found}, not {mac}")
        guest.run(f"ip link set eth0 up && ip addr add {address}/24 dev eth0", check=True)
    driver = (
        guests[0].run("basename $(readlink /sys/class/net/eth0/device/driver)", check=True).stdout.strip()
    )
    text = f"eth0 in each, by the kernel's driver {driver}, on {SWITCH}"
    act.found(stage, "found", text)


def _ping(act: Act, stage: Stage, guest: vm.Guest) -> None:
    stage.working("ping", "pinging")
    said = guest.run(f"ping -c {PINGS} -i 0.1 -W 5 {ADDRESSES[1]}").stdout
    received = re.search(r"(\d+) packets received", said)
    times = re.search(r"= ([\d.]+)/([\d.]+)/([\d.]+) ms", said)
    if received is None or int(received[1]) != PINGS or times is None:
        raise DeviceError(f"one guest does not reach the other:\n{said.strip()}")
    least, mean, most = times.groups()
    text = f"{PINGS} of {PINGS} answered; {least} ms at best, {mean} on average, {most} at worst"
    act.found(stage, "ping", text, ping_ms=float(mean))


def _transfer(act: Act, stage: Stage, guests: Sequence[vm.Guest], seconds: float) -> None:
    one, other = guests
    stage.working("transfer", "one guest fetches a file from the other")
    served = other.run(SERVE, check=True).stdout.split()[0]
    script = FETCH.replace("SPAN", str(max(1, round(seconds * 100)))).replace("ADDRESS", ADDRESSES[1])
    words = one.run(script, check=True, timeout=FETCH_SECONDS).stdout.split()
    count, spent, fetched = int(words[0]), int(words[1]) / 100, words[2]
    if fetched != served:
        raise DeviceError(f"{binary_size(FILE_SIZE)} were sent and others arrived: {served} became {fetched}")
    size, rate = count * FILE_SIZE, count * FILE_SIZE * 8 / spent
    text = (
        f"{binary_size(size)} by HTTP in {spent:.2f} s, {_rate(rate)}; "
        f"the file came as it was (sha256 {fetched[:16]})"
    )
    act.found(stage, "transfer", text, transfer_bytes=size, transfer_bits_per_second=rate)


def _rate(bits_per_second: float) -> str:
    if bits_per_second >= 1e9:
        return f"{bits_per_second / 1e9:.2f} Gbit/s"
    return f"{bits_per_second / 1e6:.0f} Mbit/s"
