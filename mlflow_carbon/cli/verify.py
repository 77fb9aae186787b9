"""``mlflow-carbon verify``: whether runs are as they were when they ended, and reports as they were signed."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlflow_carbon.report.shown import shown, visible
from mlflow_carbon.settings import trusted_keys

if TYPE_CHECKING:
    from mlflow_carbon.evidence.seal import Seals
    from mlflow_carbon.evidence.sealed import SealCheck
    from mlflow_carbon.evidence.witness import Seen

_MOST_NAMED = 20


@click.command()
@click.option("--store", envvar="MLFLOW_TRACKING_URI", help="Address of the MLflow store, as MLflow takes it: sqlite, postgresql, http(s)...")  # fmt: skip
@click.option("--run", "runs", multiple=True, help="This run; repeatable.")
@click.option("--experiment", "experiments", multiple=True, help="Every run of this experiment (name or id); repeatable.")  # fmt: skip
@click.option("--model", "models", multiple=True, metavar="NAME/VERSION", help="The run behind this model version; repeatable.")  # fmt: skip
@click.option("--ledger", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Compare with what a witness saw, too: files, and runs that vanished.")  # fmt: skip
@click.option("--head", metavar="SHA256", help="The ledger's head as you noted it: shows whether lines were cut off.")  # fmt: skip
@click.option("--report", "reports", multiple=True, type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Instead of runs: this report of an audit (PDF, JSON, any format); repeatable.")  # fmt: skip
@click.option("--strict", is_flag=True, help="Exit with 3 when a run has no seal or a report no signature.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each run or report.")  # fmt: skip
def command(
    store: str | None, ledger: Path | None, head: str | None, strict: bool, **chosen: object
) -> None:
    """Compare runs with their seals and name every key that was changed; or check a report's signature.

    Without --run, --experiment or --model every run of the store is compared.
    Exit codes: 0 nothing was altered, 1 something was, 3 something has no seal or signature (--strict).
    """
    from mlflow_carbon.signing import trust

    as_json, trusted = bool(chosen["as_json"]), trust.load(trusted_keys())
    if reports := _all(chosen["reports"], Path):
        from mlflow_carbon.cli._verify_report import verify_reports

        sys.exit(verify_reports(reports, trusted, store, strict=strict, as_json=as_json))
    if store is None:
        raise click.UsageError("name the store with --store, or a report with --report.")
    from mlflow_carbon.evidence.ledger import Ledger
    from mlflow_carbon.evidence.seal import Seals  # imports MLflow: some seconds
    from mlflow_carbon.evidence.witness import Seen, read

    seen = read(Ledger(ledger), trusted) if ledger else Seen()
    named = [_all(chosen[kind], str) for kind in ("runs", "experiments", "models")]
    counts = _verify(Seals(store, trusted, seen), named, as_json)
    faults = _ledger_faults(seen, head) if ledger else []
    for fault in faults:
        click.echo(f"ledger: {visible(fault)}", err=as_json)
    if ledger and not faults:
        click.echo(f"ledger: {len(seen.runs)} runs, signed by {shown(seen.by, 60)}, head {seen.head}", err=as_json)  # fmt: skip
    if counts["altered"] or faults:
        sys.exit(1)
    if strict and (counts["unsealed"] or not counts):
        sys.exit(3)


def _verify(seals: Seals, named: list[tuple[str, ...]], as_json: bool) -> Counter[str]:
    """Compare and print; how many runs are in which state."""
    runs, experiments, models = named
    counts: Counter[str] = Counter()
    gone = [] if any(named) else list(seals.vanished())
    compared = (seals.check(one) for one in seals.chosen(runs, experiments, models))
    for check in (*compared, *gone):
        counts[check.seal.value] += 1
        _print_json(check) if as_json else _print(check)
    if not as_json:
        told = ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
        total = sum(counts.values())
        click.echo(f"{total} {'run' if total == 1 else 'runs'}: {told or 'nothing to compare'}.")
    return counts


def _ledger_faults(seen: Seen, head: str | None) -> list[str]:
    faults = [*seen.faults]
    if head is not None and head != seen.head and not faults:
        faults.append(f"its head is {seen.head}, not the one you noted: lines were cut off, or added since")  # fmt: skip
    return faults


def _all(values: object, kind: type) -> tuple:  # type: ignore[type-arg]  # of ``kind``
    return tuple(map(kind, values)) if isinstance(values, tuple) else ()


def _print(check: SealCheck) -> None:
    reason = f" ({visible(check.reason)})" if check.reason else ""
    click.echo(f"{check.seal.value:<9} {check.run_id} {shown(check.name, 60)}{reason}{_signed(check)}")  # fmt: skip
    for change in check.changes[:_MOST_NAMED]:
        click.echo(f"          {shown(str(change), 300)}")
    if (rest := len(check.changes) - _MOST_NAMED) > 0:
        click.echo(f"          and {rest} more; --json lists all.")


def _signed(check: SealCheck) -> str:
    signature = check.signature
    seen = f", witnessed on {check.witnessed_at:%Y-%m-%d %H:%M} UTC" if check.witnessed_at else ""
    if signature.standing.value == "signed":
        return f", signed by {shown(signature.by, 60)} on {signature.at:%Y-%m-%d %H:%M} UTC{seen}"
    if signature.standing.value == "doubtful":
        return f", its signature does not count: {visible(signature.reason)}{seen}"
    return seen


def _print_json(check: SealCheck) -> None:
    signature = check.signature
    click.echo(
        json.dumps(
            {
                "run_id": check.run_id,
                "name": check.name,
                "seal": check.seal.value,
                "reason": check.reason,
                "signature": signature.standing.value,
                "signed_by": signature.by,
                "signature_reason": signature.reason,
                "witnessed_at": check.witnessed_at.isoformat() if check.witnessed_at else None,
                "changes": [asdict(change) for change in check.changes],
            }
        )
    )
