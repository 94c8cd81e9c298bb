"""Results as tables: each is a title, a head and rows, which text, Markdown and documents are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tables import thousands
from workloads import SECTIONS

Results = Mapping[str, Any]


class Table(NamedTuple):
    """One table. ``name`` is what a document's markers call it."""

    name: str
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables_of(results: Results) -> list[Table]:
    """All that there are results for."""
    found = []
    if blk := results.get("blk"):
        found += [_section(name, blk["workloads"]) for name in SECTIONS]
        found.append(_limits(blk["limits"]))
    if "handler" in results:
        found.append(_handler(results["handler"]))
    if "service" in results:
        found.append(_service(results["service"]))
    if results.get("instructions"):
        found.append(_instructions(results["instructions"]))
    if net := results.get("net"):
        found += [_net(net["workloads"]), _switch(net["switch"]), _idle(net.get("idle", {}))]
    return [each for each in found if each.rows]


def ratio(each: Results) -> float | None:
    """Ours over the other; None if there was no other."""
    figures = each["figures"]
    other = figures.get(each["other"])
    return figures[each["ours"]]["iops"] / other["iops"] if other else None


def _section(name: str, workloads: Mapping[str, Results]) -> Table:
    other, ours = ("other", "this") if name == "own" else ("peer", "ours")
    head = [
        "workload", f"{other} I/O/s", f"{ours} I/O/s", "ratio", f"CPU ns {other}", ours,
        f"p50 us {other}", ours, f"p99 us {other}", ours, "limit I/O/s",
    ]  # fmt: skip
    rows = [_workload(title, each) for title, each in workloads.items() if each["section"] == name]
    return Table(name, SECTIONS[name], head, rows)


def _workload(title: str, each: Results) -> list[str]:
    ours = each["figures"][each["ours"]]
    other = each["figures"].get(each["other"])
    pairs = [
        text
        for key, digits in (("cpu_ns", 0), ("p50_us", 1), ("p99_us", 1))
        for text in (_figure(other, key, digits), _figure(ours, key, digits))
    ]
    limit = (each["limit"] or {}).get("iops")
    return [
        title, thousands(other["iops"]) if other else "", thousands(ours["iops"]), _times(ratio(each)),
        *pairs, thousands(limit) if limit else "",
    ]  # fmt: skip


def _figure(figures: Results | None, key: str, digits: int) -> str:
    return f"{figures[key]:.{digits}f}" if figures else ""


def _limits(limits: Mapping[str, float]) -> Table:
    rows = [(name, thousands(rate), f"{1e9 / rate:.0f}") for name, rate in limits.items()]
    return Table("limits", "What one core does without a ring", ("limit", "I/O/s", "ns"), rows)


def _handler(results: Mapping[str, Results]) -> Table:
    rows = [
        (
            name,
            thousands(each["iops"]),
            f"{each['p50_us']:.1f}",
            f"{each['p99_us']:.1f}",
            f"{each['cpu_ns']:.0f}",
        )
        for name, each in results.items()
    ]
    head = ("handler", "requests/s", "p50 us", "p99 us", "CPU ns/request")
    return Table("handler", "Handlers in Python", head, rows)


def _service(results: Results) -> Table:
    rows = [
        ("start until listening, median", f"{results['listening_ms']:.0f} ms"),
        ("start until listening, worst", f"{results['listening_worst_ms']:.0f} ms"),
        ("anonymous memory (RssAnon)", f"{results['anonymous_mib']:.1f} MiB"),
        ("resident memory (VmRSS)", f"{results['resident_mib']:.1f} MiB"),
        ("processor while a driver is idle", f"{results['idle_percent']:.2f} %"),
    ]
    return Table("service", "virtio blk as a service", ("virtio blk", ""), rows)


def _instructions(results: Mapping[str, Results]) -> Table:
    rows = [(name, f"{each['device']:.0f}", f"{each['driver']:.0f}") for name, each in results.items()]
    head = ("instructions per request", "device", "driver")
    return Table("instructions", "Instructions per request", head, rows)


def _net(workloads: Mapping[str, Results]) -> Table:
    verdict = ("ratio", "best")
    head = ("Mpps", "DPDK with itself", "pyvirtio device", *verdict, "pyvirtio driver", *verdict)
    rows = [_forwarded(name, each, ("device", "driver")) for name, each in workloads.items()]
    return Table("net", "A NIC: frames a second, one core each side", head, rows)


def _switch(workloads: Mapping[str, Results]) -> Table:
    rows = [_forwarded(name, each, ("switch",)) for name, each in workloads.items()]
    head = ("Mpps", "DPDK", "pyvirtio", "ratio", "best")
    return Table("switch", "Forwarding between two NICs on one core", head, rows)


def _forwarded(name: str, each: Results, sides: Sequence[str]) -> tuple[str, ...]:
    """DPDK's rate; then of each side the rate, its ratio, and that of the best rounds of both."""
    rates = each["rates"]
    ours = [
        text
        for side in sides
        for text in (
            f"{rates[side] / 1e6:.2f}",
            _times(each["ratios"][side]),
            _times(each["best"][side]),
        )
    ]
    return (name, f"{rates['dpdk'] / 1e6:.2f}", *ours)


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _idle(percents: Mapping[str, float]) -> Table:
    rows = [(name, f"{percent:.2f} %") for name, percent in percents.items()]
    return Table("net-idle", "A NIC without traffic", ("pyvirtio", "of a core"), rows)
