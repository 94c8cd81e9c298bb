"""A drawing of the results: what each side does, and how the ratios stand to what they are meant to be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from report import ratio
from tables import thousands

OURS, OTHER, BAR, TEXT = "#1f6f8b", "#c9ccd1", "#d1495b", "#33373d"
ROW = 0.42  # inches of height a workload
VERSUS = ("disk", "rings", "equal")


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Draw what was compared with a peer to ``path``, whose suffix says how (svg, png, pdf).

    Needs matplotlib: ``pip install --group bench``.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit("no drawing without matplotlib\n  fix: pip install --group bench") from None
    found = {name: each for name, each in results["blk"]["workloads"].items() if each["section"] in VERSUS}
    figure = Figure(figsize=(11, 1.6 + ROW * len(found)), layout="constrained")
    rates, ratios = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    _rates(rates, found)
    _ratios(ratios, found)
    figure.suptitle("virtio blk and qemu-storage-daemon, one core each", color=TEXT, fontsize=13)
    figure.savefig(path)


def _rates(axes: Any, found: Mapping[str, Any]) -> None:
    """Thousands of requests a second, on a logarithmic scale, and the machine's limit as a tick."""
    for row, each in enumerate(found.values()):
        ours = each["figures"][each["ours"]]["iops"]
        other = each["figures"].get(each["other"], {}).get("iops")
        first = row == 0
        axes.barh(row - 0.2, ours, 0.38, color=OURS, label="pyvirtio" if first else None)
        axes.annotate(
            thousands(ours),
            (ours, row - 0.2),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color=TEXT,
        )
        if other:
            axes.barh(row + 0.2, other, 0.38, color=OTHER, label="qemu-storage-daemon" if first else None)
        if limit := (each["limit"] or {}).get("iops"):
            axes.plot(
                [limit, limit],
                [row - 0.42, row + 0.42],
                color=TEXT,
                linewidth=1.5,
                label="limit of one core" if first else None,
            )
    axes.set_xscale("log")
    axes.set_yticks(range(len(found)), list(found), fontsize=8, color=TEXT)
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_xlabel("requests a second")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=3, frameon=False, fontsize=8)
    _plain(axes)


def _ratios(axes: Any, found: Mapping[str, Any]) -> None:
    """Ratios; 1 is a draw, the mark is what the workload is meant to reach."""
    for row, each in enumerate(found.values()):
        if (value := ratio(each)) is None:
            continue
        axes.barh(row, value, 0.6, color=OURS)
        axes.annotate(
            f"{value:.2f}",
            (max(value, each["bar"] or 0), row),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=TEXT,
        )
        if each["bar"]:
            axes.plot([each["bar"]] * 2, [row - 0.4, row + 0.4], color=BAR, linewidth=2)
    axes.axvline(1, color=TEXT, linewidth=0.8)
    axes.set_xlabel("ratio of the rates (red: what is meant to be reached)")
    _plain(axes)


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#e6e8eb", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=TEXT)
