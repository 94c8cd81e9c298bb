"""Proves that a block device keeps what it is given, under load and while its file is interfered with.

``python -m virtio.testing.integrity`` serves a file with ``virtio blk`` and checks it; `run_integrity` checks
any disk that is driven by `virtio.drivers.Blk`.
"""

from virtio.testing.integrity.run import IntegrityOptions, IntegrityResult, run_integrity

__all__ = ["IntegrityOptions", "IntegrityResult", "run_integrity"]
