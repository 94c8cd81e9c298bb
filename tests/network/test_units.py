"""Times, rates, sizes and percentages as tc writes them."""

import pytest

from virtio.network.units import parse_count, parse_percent, parse_rate, parse_size, parse_time


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("10ms", 10**7), ("1.5s", 15 * 10**8), ("250us", 250_000), ("250usec", 250_000), ("7ns", 7), ("0ms", 0)],
)
def test_times(text: str, nanoseconds: int) -> None:
    assert parse_time(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "per_second"),
    [
        ("1mbit", 125_000),
        ("10kbit", 1250),
        ("1gbit", 125_000_000),
        ("8bit", 1),
        ("1kibit", 128),
        ("100kbps", 100_000),
        ("1mbps", 10**6),
        ("2.5Mbit", 312_500),
    ],
)
def test_rates_are_in_bits_and_bps_in_bytes(text: str, per_second: int) -> None:
    assert parse_rate(text) == per_second


@pytest.mark.parametrize(("text", "size"), [("1500", 1500), ("64kb", 65536), ("2mb", 2 << 20), ("1k", 1024)])
def test_sizes_are_powers_of_two(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "share"), [("1%", 0.01), ("100%", 1.0), ("0.05%", 0.0005), ("0%", 0.0)])
def test_percentages(text: str, share: float) -> None:
    assert parse_percent(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "10", "ms", "-1ms", "10 ms x", "1e3ms", "2h", "7200s", "nan", "infs"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="such as 10ms"):
        parse_time(text)


@pytest.mark.parametrize("text", ["", "10", "0mbit", "0.1bit", "10mbyte", "99999tbit", "-1mbit"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="such as 64kbit"):
        parse_rate(text)


@pytest.mark.parametrize("text", ["1", "0.01", "101%", "%", "-1%", "1%%", "one%"])
def test_what_is_no_percentage(text: str) -> None:
    with pytest.raises(ValueError, match="percentage from 0%"):
        parse_percent(text)


@pytest.mark.parametrize("text", ["-1", "1.5", "", "0x10", "11", "9" * 30])
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(ValueError, match="up to 10"):
        parse_count(text, 10)


def test_what_is_no_size() -> None:
    for text in ("-1", "9999gb", "1tb2", ""):
        with pytest.raises(ValueError, match="size in bytes"):
            parse_size(text)
