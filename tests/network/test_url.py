"""Links by name."""

import pytest

from virtio.errors import NetworkUrlError, UsageError
from virtio.network import Link, Sink, open_link


@pytest.mark.parametrize("url", ["nowhere:", "null", "null:?colour=red"])
def test_what_is_no_link(url: str) -> None:
    with pytest.raises(NetworkUrlError, match=r"null|there are"):
        open_link(url)


def test_one_nic_at_a_time() -> None:
    link = open_link("loop:")
    link.connect(Sink(), queues=2)
    assert link.queues == 2
    with pytest.raises(UsageError, match="loop: is connected"):
        link.connect(Sink())
    link.disconnect()
    link.connect(Sink())
    assert isinstance(link, Link)
    assert link.stats() == {"frames": 0, "bytes": 0, "dropped": 0}
