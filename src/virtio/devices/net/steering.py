"""Which receive queue a frame goes to."""

# ruff: noqa: D102 -- the .pxd declares these names and says what its methods do

__all__ = ["Steering"]


class Steering:
    """Receive steering; the base sends everything to the first queue."""

    def choose(self, frame, hash, report):
        hash[0] = 0
        report[0] = 0
        return 0
