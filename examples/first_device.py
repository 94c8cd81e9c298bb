"""A device of its own kind, and what a driver gets from it.

    python first_device.py [SOCKET]

With a socket's path it is served there until ^C. Without one the program serves it to itself.
"""

import sys
import tempfile

import virtio
from virtio.serve import serving


class Upper(virtio.Device):
    """Answers every request with its text in capitals."""

    device_id = 42
    queues = (virtio.Queue("requests", size=256),)

    def requests(self, request: virtio.Request) -> None:
        request.write(bytes(request.readable).upper())


def show() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/upper.sock"
        with serving(Upper(), path), virtio.drivers.Raw.connect(path, device_id=42) as device:
            print(device.request(b"hello", 5).decode())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        virtio.serve(Upper(), sys.argv[1])
    else:
        show()
