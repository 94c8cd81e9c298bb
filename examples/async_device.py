"""A device whose handler is a coroutine: many requests in flight, each answered when it is ready.

The driver sends five requests at once; the one that came last has the least to wait, and is answered first.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import virtio
from virtio.drivers import Raw
from virtio.testing import loopback_socket


class Sleeper(virtio.Device):
    """Waits for as many milliseconds as the request says."""

    device_id = 42
    queues = (virtio.Queue("requests"),)

    async def requests(self, request: virtio.Request) -> None:
        await asyncio.sleep(int(request.read()) / 1000)
        request.write(b"done")


def main() -> None:
    finished: list[int] = []

    def ask(milliseconds: int) -> None:
        device.request(str(milliseconds).encode(), 4)
        finished.append(milliseconds)

    with loopback_socket(Sleeper()) as sock, Raw.connect(sock, device_id=42) as device:
        started = time.monotonic()
        with ThreadPoolExecutor() as threads:
            list(threads.map(ask, [1000, 800, 600, 400, 200]))
        print("finished:", *finished)
        print(f"{time.monotonic() - started:.1f} seconds together")


if __name__ == "__main__":
    main()
