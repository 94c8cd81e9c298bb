"""Flow filters of the network device, and its IPsec.

Virtio 1.4, "Device Types / Network Device / Device Operation / Flow filter".
"""

from __future__ import annotations

from virtio.spec.layout import Struct, le16, le32, u8

# Other numbers
FF_RESOURCE_CAP = 0x0800
FF_SELECTOR_CAP = 0x0801
IPSEC_RESOURCE_CAP = 0x0803
IPSEC_SA_CAP = 0x0804

# What a selector matches
FF_MASK_TYPE_ETH = 1
FF_MASK_TYPE_IPV4 = 2
FF_MASK_TYPE_IPV6 = 3
FF_MASK_TYPE_TCP = 4
FF_MASK_TYPE_UDP = 5
FF_MASK_TYPE_ESP = 6

# Flags of a selector
FF_MASK_F_PARTIAL_MASK = 1 << 0

# Actions
FF_ACTION_CAP = 0x0802
FF_ACTION_DROP = 1
FF_ACTION_DIRECT_RX_VQ = 2
FF_ACTION_IPSEC = 3
FF_ACTION_IPSEC_RECIRCULATE = 4

# Resource objects
RESOURCE_OBJ_FF_GROUP = 0x0200
RESOURCE_OBJ_FF_CLASSIFIER = 0x0201
RESOURCE_OBJ_FF_RULE = 0x0202
RESOURCE_OBJ_IPSEC_OUTB_SA = 0x0203
RESOURCE_OBJ_IPSEC_INB_SA = 0x0204


# VIRTIO_NET_FF_RESOURCE_CAP
class FfCapData(Struct, name="virtio_net_ff_cap_data"):
    """Limits of the flow filter (FF_RESOURCE_CAP)."""

    groups_limit = le32()
    classifiers_limit = le32()
    rules_limit = le32()
    rules_per_group_limit = le32()
    last_rule_priority = u8()
    selectors_per_classifier_limit = u8()
    reserved = u8(2)


# VIRTIO_NET_FF_SELECTOR_CAP
class FfSelector(Struct, name="virtio_net_ff_selector"):
    """Which part of a header is matched."""

    type = u8()
    flags = u8()
    reserved = u8(2)
    length = u8()
    reserved1 = u8(3)
    mask = u8("length")


class FfCapMaskData(Struct, name="virtio_net_ff_cap_mask_data"):
    """Which selectors there may be (FF_SELECTOR_CAP)."""

    count = u8()
    reserved = u8(7)
    selectors = u8("...", doc="count of FfSelector")


# VIRTIO_NET_FF_ACTION_CAP
class FfActions(Struct, name="virtio_net_ff_actions"):
    """Which actions there may be (FF_ACTION_CAP)."""

    count = u8()
    reserved = u8(7)
    actions = u8("count", doc="FF_ACTION_*")


# Device Operation / Flow filter / Resource objects / VIRTIO-NET-RESOURCE-OBJ-FF-GROUP
class ResourceObjFfGroup(Struct, name="virtio_net_resource_obj_ff_group"):
    """A group of rules."""

    group_priority = le16()


# Device Operation / Flow filter / Resource objects / VIRTIO-NET-RESOURCE-OBJ-FF-CLASSIFIER
class ResourceObjFfClassifier(Struct, name="virtio_net_resource_obj_ff_classifier"):
    """What a rule matches."""

    count = u8()
    reserved = u8(7)
    selectors = u8("...", doc="count of FfSelector")


# Device Operation / Flow filter / Resource objects / VIRTIO-NET-RESOURCE-OBJ-FF-RULE
class ResourceObjFfRule(Struct, name="virtio_net_resource_obj_ff_rule"):
    """A rule."""

    group_id = le32()
    classifier_id = le32()
    rule_priority = u8()
    key_length = u8()
    action = u8()
    reserved = u8()
    vq_index = le16()
    reserved1 = u8(2)
    keys = u8("key_length")
