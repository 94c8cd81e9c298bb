"""Links by name."""

import subprocess
import sys
import threading

import pytest

from virtio.errors import NetworkUrlError, UsageError
from virtio.network import Link, NullLink, Sink, open_link


def test_a_link_is_closed_with_its_block() -> None:
    before = threading.active_count()
    with open_link("flood:") as link:
        link.connect(NullLink())
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


@pytest.mark.parametrize("url", ["nowhere:", "null", "null:?colour=red"])
def test_what_is_no_link(url: str) -> None:
    with pytest.raises(NetworkUrlError, match=r"null|there are"):
        open_link(url)


def test_links_and_filters_load_when_they_are_used() -> None:
    code = (
        "import sys, virtio.network\n"
        "loaded = {name for name in sys.modules if name.startswith('virtio.network.')}\n"
        "assert loaded == {'virtio.network.link', 'virtio.network.null', 'virtio.network.url'}, loaded\n"
        "assert all(hasattr(virtio.network, name) for name in virtio.network.__all__)\n"
        "assert not hasattr(virtio.network, 'nothing')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


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
