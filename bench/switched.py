"""Two NICs on one switch of this process, each behind a socket: `python bench/switched.py SOCKET SOCKET`."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack

from virtio.devices.net import Net
from virtio.service import serving

RING = 1024


def main(*sockets: str) -> None:
    """Serve until SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with ExitStack() as stack:
        for path in sockets:
            nic = stack.enter_context(Net("switch:bench", queue_size=RING))
            stack.enter_context(serving(nic, path))
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main(*sys.argv[1:])
