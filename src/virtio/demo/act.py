"""One act of the demo: what it found, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from virtio.demo.stage import Stage
from virtio.errors import HostError, VirtioError

__all__ = ["Act", "Outcome", "binary_size"]

Outcome = Literal["ok", "failed", "missing"]


@dataclass
class Act:
    """``outcome`` is "missing" where the machine lacks what the act needs, and ``trouble`` says what."""

    name: str
    title: str
    outcome: Outcome = "ok"
    trouble: str = ""
    findings: dict[str, str] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)

    def play(self, stage: Stage, number: int, perform: Callable[[Act, Stage], None]) -> Act:
        """Perform it on ``stage``; our errors end the act, not the demo."""
        stage.title(number, self.title)
        try:
            perform(self, stage)
        except HostError as error:
            self._end("missing", error, stage)
        except VirtioError as error:
            self._end("failed", error, stage)
        finally:
            stage.clear()
        return self

    def found(self, stage: Stage, label: str, text: str, **figures: float) -> None:
        """Keep and show one finding; ``figures`` are for programs."""
        self.findings[label] = text
        self.figures.update(figures)
        stage.finding(label, text)

    def _end(self, outcome: Outcome, error: VirtioError, stage: Stage) -> None:
        self.outcome = outcome
        self.trouble = error.report()
        stage.finding("", self.trouble, mark="skipped" if outcome == "missing" else "FAILED")


def binary_size(size: float) -> str:
    """A number of bytes for people: ``64 MiB``."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} GiB"
