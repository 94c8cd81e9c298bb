"""Impairment: delay, jitter, loss, duplication, reordering, corruption and rate, as tc-netem knows them.

The options of a link's URL, each for both directions or as ``IN/OUT`` (to the guest / from it):

======================== =======================================================================
``delay=10ms``           each frame is held so long
``jitter=2ms[,25%]``     more or less, with a correlation to the frame before
``distribution=``        of the jitter: uniform, normal, pareto, paretonormal
``loss=1%[,25%]``        a share is lost, with a correlation
``gemodel=1%,10%``       lost in bursts (Gilbert-Elliott): into the bad state, out of it, loss in it
                         (100%), loss in the good state (0%)
``duplicate=1%[,25%]``   a share comes twice
``corrupt=0.1%[,25%]``   one bit of a frame is flipped
``reorder=25%[,50%]``    a share is not delayed and so overtakes; ``gap=5``: every fifth at the most
``rate=10mbit``          bytes leave so fast; ``overhead=24`` more for each frame
``burst=32kb``           so much passes at once after a pause
``queue=128kb``          so much waits for the rate, the rest is dropped
``exceed=drop``          what exceeds the rate is dropped and does not wait
``limit=1000``           frames held at the most
``impair=both``          ``in``: to the guest only; ``out``: from it only
``seed=1``               runs with one seed are alike
``segments=off``         have frames segmented before they come
======================== =======================================================================
"""

from virtio.errors import NetworkUrlError
from virtio.network.impair.impair_link import ImpairLink
from virtio.network.impair.pipe import Pipe
from virtio.network.impair.settings import Impairment, both_directions
from virtio.network.link import Link
from virtio.network.units import parse_count
from virtio.network.url import Location

__all__ = ["ImpairLink", "Impairment", "Pipe", "wrap"]


def wrap(link: Link, location: Location) -> Link:
    """Put the impairment that a URL's options describe around ``link``. Raises NetworkUrlError."""
    options = location.options
    try:
        seed = parse_count(options["seed"], 2**64 - 1) if "seed" in options else None
    except ValueError as error:
        raise NetworkUrlError(f"seed={options['seed']}: seed is {error}") from None
    segments = options.get("segments", "on")
    if segments not in ("on", "off"):
        raise NetworkUrlError(f"segments={segments}: segments is on or off")
    inwards, outwards = both_directions(options)
    return ImpairLink(link, inwards, outwards, seed=seed, segments=segments == "on")
