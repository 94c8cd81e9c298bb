"""The specification as data: virtio 1.4 with its legacy interface, and vhost-user.

Declared once here, read by everything else. One module per device type with a chapter (``virtio.spec.blk``),
all of the same shape; ``features``, ``status`` and ``ids`` for what they share. Device types load when first
asked for::

    from virtio import spec

    spec.device("blk").features["RO"]                      # 5
    spec.features.check(1, spec.features.mask(7))          # FeatureError: GUEST_TSO4 (7) needs GUEST_CSUM (1)
"""

from __future__ import annotations

from virtio.spec import features, ids, status
from virtio.spec.declare import DeviceType, Feature, Queue
from virtio.spec.ids import DEVICES, DeviceId, device
from virtio.spec.layout import Field, Struct

__all__ = [
    "DEVICES",
    "DeviceId",
    "DeviceType",
    "Feature",
    "Field",
    "Queue",
    "Struct",
    "device",
    "features",
    "ids",
    "status",
]
