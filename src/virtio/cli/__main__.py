"""``python -m virtio.cli`` is ``virtio``."""

from __future__ import annotations

from virtio.cli import main

main()
