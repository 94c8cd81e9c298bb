from typing_extensions import disjoint_base

__all__ = ["Steering"]

@disjoint_base
class Steering:
    """Receive steering; the base sends everything to the first queue."""
