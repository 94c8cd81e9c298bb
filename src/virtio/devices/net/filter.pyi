from typing_extensions import disjoint_base

__all__ = ["ReceiveFilter"]

@disjoint_base
class ReceiveFilter:
    """Receive filtering; the base lets everything through."""
