"""Which frames a NIC lets through to its driver."""

# ruff: noqa: D102 -- the .pxd declares these names and says what its methods do

__all__ = ["ReceiveFilter"]


class ReceiveFilter:
    """Receive filtering; the base lets everything through."""

    def admits(self, head, length):
        return True
