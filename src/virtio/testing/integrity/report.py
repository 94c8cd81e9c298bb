"""What is said about a case, in one line or in several."""

from __future__ import annotations

from virtio.testing.integrity.case import MIB, Case, Outcome
from virtio.testing.integrity.run import IntegrityResult

__all__ = ["in_full", "in_one_line"]


def in_one_line(case: Case, outcome: Outcome) -> str:
    """For a table of many."""
    result, report = outcome.result, outcome.report
    return (
        f"{case.ring}, {case.name}: {_verdict(result)}, "
        f"{result.requests} requests in {result.seconds:.1f} s, "
        f"{result.sectors_checked} sectors checked, wrong: {_wrong(result)}, {result.errors} errors; "
        f"{outcome.shares[0]:.0%} read and {outcome.shares[1]:.0%} written through the mapping or io_uring; "
        f"{report.pages_evicted} pages dropped, {_memory(case, outcome)}, "
        f"resized {report.grown + report.shrunk} times{_trail(case, outcome)}"
    )


def in_full(case: Case, outcome: Outcome) -> str:
    """For one case alone."""
    result, report = outcome.result, outcome.report
    kinds = ", ".join(f"{count} {name}" for name, count in result.kinds.items())
    lines = [
        f"{case.ring} ring, cache {case.cache}{', ' if case.query else ''}{case.query}, "
        f"seed {case.options.seed}: {_verdict(result)}",
        f"  {result.requests} requests in {result.seconds:.1f} s ({kinds})",
        f"  {result.sectors_checked} sectors of 512 bytes read and checked, wrong: {_wrong(result)}; "
        f"{result.errors} errors",
        f"  through the mapping or io_uring, not by calls: {outcome.shares[0]:.0%} of the "
        f"bytes read, {outcome.shares[1]:.0%} of those written",
        f"  meanwhile {report.drops} times the page cache was dropped ({report.pages_evicted} pages), "
        f"the file grown {report.grown} and shrunk {report.shrunk} times",
    ]
    if case.memory_limit is not None:
        lines.append(f"  {_memory(case, outcome)}")
    return "\n".join(lines) + _trail(case, outcome).replace("; ", "\n  ")


def _verdict(result: IntegrityResult) -> str:
    return "sound" if result.sound else "NOT SOUND"


def _wrong(result: IntegrityResult) -> str:
    return ", ".join(f"{count} {name}" for name, count in result.wrong.items()) or "none"


def _memory(case: Case, outcome: Outcome) -> str:
    if outcome.unlimited is not None:
        return f"memory NOT limited: {outcome.unlimited}"
    if case.memory_limit is None:
        return "memory not limited"
    return f"{outcome.refaults} pages read again that {case.memory_limit // MIB} MiB of memory did not hold"


def _trail(case: Case, outcome: Outcome) -> str:
    """What helps to find a fault."""
    result, trail = outcome.result, ""
    if result.first_wrong is not None:
        trail += f"; the first wrong sector is at byte {result.first_wrong}"
    if result.errors:
        trail += f"; the last error's status is {result.last_status}"
    return trail if result.sound else f"{trail}; the seed was {case.options.seed}"
