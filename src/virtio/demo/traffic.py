"""What passed between two NICs, by the counters of the NICs and of their ports at the switch."""

from __future__ import annotations

from virtio.demo.act import binary_size
from virtio.devices.net import Net

__all__ = ["Traffic"]

Counters = dict[str, int]
PORT_DROPS = "dropped_"
NIC_DROPS = ("runt", "giant", "header", "offload", "down", "full")


class Traffic:
    """Counts from its making on."""

    def __init__(self, one: Net, other: Net) -> None:
        self._nics = (one, other)
        self._before = [_counters(nic) for nic in self._nics]

    def counters(self) -> list[Counters]:
        """Of each NIC: ``frames`` and ``bytes`` that it sent, ``filtered`` ones, and ``dropped`` ones."""
        return [
            {name: now - before[name] for name, now in _counters(nic).items()}
            for nic, before in zip(self._nics, self._before, strict=True)
        ]

    def report(self) -> tuple[str, dict[str, float]]:
        """The counters for people, and as figures."""
        there, back = counters = self.counters()
        dropped, filtered = (sum(one[name] for one in counters) for name in ("dropped", "filtered"))
        text = f"there {_amount(there)}; back {_amount(back)}; {dropped or 'none'} dropped"
        if filtered:
            text += f", {filtered} filtered as the guests asked"
        figures = {
            "frames": there["frames"] + back["frames"],
            "frame_bytes": there["bytes"] + back["bytes"],
            "dropped": dropped,
        }
        return text, figures


def _counters(nic: Net) -> Counters:
    counted = nic.nic.stats()
    sent = counted["transmit"]
    both = sent + counted["receive"]
    drops = sum(queue[reason] for queue in both for reason in NIC_DROPS)
    drops += sum(n for name, n in nic.link.stats().items() if name.startswith(PORT_DROPS))
    return {
        "frames": sum(queue["frames"] for queue in sent),
        "bytes": sum(queue["bytes"] for queue in sent),
        "filtered": sum(queue["filtered"] for queue in both),
        "dropped": drops,
    }


def _amount(counters: Counters) -> str:
    frames = f"{counters['frames']:,}".replace(",", " ")
    return f"{frames} frames, {binary_size(counters['bytes'])}"
