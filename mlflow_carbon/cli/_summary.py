"""What an audit found, on the terminal: worst rules first, each with its denominator."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_carbon.policy.model import State
from mlflow_carbon.units import show_emissions, show_energy

if TYPE_CHECKING:
    from mlflow_carbon.audit.summary import Audit, EnergyAccount, RuleSummary

_COLUMNS = {
    State.FAIL: ("fail", "red"),
    State.ERROR: ("error", "red"),
    State.NO_EVIDENCE: ("no evidence", "yellow"),
    State.NEEDS_ATTESTATION: ("to attest", "yellow"),
    State.WAIVED: ("waived", "magenta"),
    State.PASS: ("pass", "green"),
}
"""Worst first. ``not_applicable`` is what is missing to the number of subjects."""

_ALWAYS = (State.FAIL, State.NO_EVIDENCE, State.PASS)


def _order(summary: RuleSummary) -> tuple[object, ...]:
    worst = next((place for place, state in enumerate(_COLUMNS) if summary.counts[state]), 99)
    return worst, summary.rule.severity.rank, summary.rule.id, summary.pack_id


def print_summary(audit: Audit, written: Mapping[str, Path]) -> None:
    """Print the table of rules, what was read, the energy and carbon, and the files."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    asked = [one for one in audit.rules if one.subjects > one.counts[State.NOT_APPLICABLE]]
    shown = [s for s in _COLUMNS if s in _ALWAYS or any(one.counts[s] for one in asked)]
    console = Console(highlight=False)
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), width=min(console.width, 120)
    )
    table.add_column("rule", min_width=max((len(one.rule.id) for one in asked), default=4))
    table.add_column("severity", min_width=8)
    table.add_column("what it asks", ratio=1)
    for state in shown:
        words = _COLUMNS[state][0].split()
        width = max(len(word) for word in words)
        table.add_column("\n".join(words), justify="right", width=width)
    table.add_column("of", justify="right", min_width=2)
    for one in sorted(asked, key=_order):
        numbers = [
            f"[{_COLUMNS[state][1]}]{one.counts[state]}[/]" if one.counts[state] else "-"
            for state in shown
        ]
        table.add_row(
            escape(one.rule.id),
            one.rule.severity.value,
            escape(one.rule.title),
            *numbers,
            str(one.subjects),
        )
    console.print(table)
    for line in _lines(audit, len(audit.rules) - len(asked)):
        console.print(escape(line), soft_wrap=True)
    for path in written.values():
        console.print(escape(f"Written: {path}"), soft_wrap=True)


def _lines(audit: Audit, unasked: int) -> Iterator[str]:
    selection = audit.selection
    yield (
        f"{selection.store}, as of {audit.as_of:%Y-%m-%d %H:%M %Z}: "
        f"{selection.runs_read} of {selection.runs_selected} runs read."
    )
    if selection.failed_to_read:
        for reason, count in Counter(why for _, why in selection.failed_to_read).items():
            yield f"Not read: {count}, {reason}."
    if unasked:
        yield f"{unasked} rules found nothing they apply to."
    yield from (f"Waiver {note}." for note in audit.unused_waivers)
    yield from _account(audit.energy)
    # Here and not in the report, whose bytes are the same whenever it is made.
    yield f"This command took {time.process_time():.1f} s of processor time so far."


def _account(energy: EnergyAccount) -> Iterator[str]:
    if energy.total_j is None:
        yield f"Energy: unknown; none of the {energy.runs_unmeasured} runs was measured."
        return
    total = energy.total_j
    share = energy.measured_j / total.mid if total.mid else 0.0
    how = {0.0: "all of it modelled", 1.0: "all of it measured"}.get(
        share, f"{min(max(share, 0.01), 0.99):.0%} of it measured, the rest modelled"
    )
    yield f"Energy: {show_energy(total.mid)} ({show_energy(total.low)} to {show_energy(total.high)}), {how}."
    if energy.emissions_g is not None:
        grams = energy.emissions_g
        yield (
            f"Carbon: {show_emissions(grams.mid)} "
            f"({show_emissions(grams.low)} to {show_emissions(grams.high)}), location-based."
        )
    elif any(row.emissions_g for row in energy.rows):
        yield "Carbon: not added up; the runs' factors mean different things (lifecycle, direct)."
    if energy.runs_unmeasured:
        yield f"{energy.runs_unmeasured} runs were not measured; their energy is unknown and not in the total."
