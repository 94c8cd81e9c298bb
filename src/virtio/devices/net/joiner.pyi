from typing import final

__all__ = ["Joiner"]

@final
class Joiner:
    """Joins the segments of one TCP connection."""
