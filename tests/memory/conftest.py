import os

import pytest

from virtio.memory import Mapping


@pytest.fixture
def memfd():
    """Makes a memfd of so many bytes."""
    made = []

    def make(size):
        fd = os.memfd_create("guest")
        made.append(fd)
        os.ftruncate(fd, size)
        return fd

    yield make
    for fd in made:
        os.close(fd)


@pytest.fixture
def region(memfd):
    """Makes a mapping of its own zeroed memory."""

    def make(size, guest_address=0, **options):
        return Mapping.from_fd(memfd(size), size, guest_address=guest_address, **options)

    return make
