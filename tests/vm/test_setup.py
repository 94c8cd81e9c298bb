from __future__ import annotations

import pytest

from virtio.errors import UsageError
from virtio.vm.setup import parse_memory


@pytest.mark.parametrize(
    ("text", "size"),
    [("256M", 256 << 20), ("1G", 1 << 30), ("64MiB", 64 << 20), ("32768k", 32 << 20), (64 << 20, 64 << 20)],
)
def test_amounts_of_memory(text: str | int, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1G", "1T", "1.5G", "8M", str((64 << 20) + 1)])
def test_what_is_no_amount_of_memory(text: str) -> None:
    with pytest.raises(UsageError):
        parse_memory(text)
