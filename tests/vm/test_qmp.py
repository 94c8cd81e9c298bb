from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from virtio.errors import GuestError
from virtio.vm.qmp import Qmp

GREETING = {"QMP": {"version": {}}}


@contextmanager
def qmp(*answers: Any) -> Iterator[tuple[Qmp, list[Any]]]:
    """A client whose server greets, then answers each request by the next of ``answers``, line for line."""
    ours, theirs = socket.socketpair()
    asked: list[Any] = []

    def serve() -> None:
        with theirs, theirs.makefile("rwb", buffering=0) as stream:
            for answer in ([GREETING], *answers):
                stream.write(b"".join(json.dumps(one).encode() + b"\r\n" for one in answer))
                if line := stream.readline():
                    asked.append(json.loads(line))

    thread = threading.Thread(target=serve)
    thread.start()
    client = Qmp(ours, timeout=5)
    try:
        yield client, asked
    finally:
        client.close()
        thread.join()


def test_commands_and_events() -> None:
    event = {"event": "RESUME"}
    with qmp([{"return": {}}], [event, {"return": {"status": "running"}}], [{"return": {}}]) as (
        client,
        asked,
    ):
        assert client.execute("query-status") == {"status": "running"}
        client.execute("set-action", reboot="reset")
        assert list(client.events) == [event]
    assert [request["execute"] for request in asked] == ["qmp_capabilities", "query-status", "set-action"]
    assert asked[2]["arguments"] == {"reboot": "reset"}


def test_a_refusal() -> None:
    refusal = {"error": {"class": "GenericError", "desc": "not now"}}
    with (
        qmp([{"return": {}}], [refusal]) as (client, _),
        pytest.raises(GuestError, match="refused cont: not now"),
    ):
        client.execute("cont")


def test_a_qemu_that_went() -> None:
    with qmp([{"return": {}}]) as (client, _), pytest.raises(GuestError, match="closed its control socket"):
        client.execute("cont")
