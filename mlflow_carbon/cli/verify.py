"""``mlflow-carbon verify``: whether runs are as they were when they ended."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mlflow_carbon.report.shown import shown, visible

if TYPE_CHECKING:
    from mlflow_carbon.evidence.sealed import SealCheck

_MOST_NAMED = 20


@click.command()
@click.option("--store", required=True, envvar="MLFLOW_TRACKING_URI", help="Address of the MLflow store, as MLflow takes it: sqlite, postgresql, http(s)...")  # fmt: skip
@click.option("--run", "runs", multiple=True, help="This run; repeatable.")
@click.option("--experiment", "experiments", multiple=True, help="Every run of this experiment (name or id); repeatable.")  # fmt: skip
@click.option("--model", "models", multiple=True, metavar="NAME/VERSION", help="The run behind this model version; repeatable.")  # fmt: skip
@click.option("--strict", is_flag=True, help="Exit with 3 when a run has no seal.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each run.")
def command(
    store: str,
    runs: tuple[str, ...],
    experiments: tuple[str, ...],
    models: tuple[str, ...],
    strict: bool,
    as_json: bool,
) -> None:
    """Compare runs with their seals and name every key that was changed.

    Without --run, --experiment or --model every run of the store is compared.
    Exit codes: 0 nothing was altered, 1 something was, 3 a run has no seal (--strict).
    """
    from mlflow_carbon.evidence.seal import Seals  # imports MLflow: some seconds
    from mlflow_carbon.evidence.sealed import Seal

    seals = Seals(store)
    counts = dict.fromkeys(Seal, 0)
    for run_id in seals.chosen(runs, experiments, models):
        check = seals.check(run_id)
        counts[check.seal] += 1
        _print_json(check) if as_json else _print(check)
    if not as_json:
        total = sum(counts.values())
        told = ", ".join(f"{number} {seal.value}" for seal, number in counts.items() if number)
        click.echo(f"{total} {'run' if total == 1 else 'runs'}: {told or 'nothing to compare'}.")
    if counts[Seal.ALTERED]:
        sys.exit(1)
    if strict and (counts[Seal.UNSEALED] or not sum(counts.values())):
        sys.exit(3)


def _print(check: SealCheck) -> None:
    reason = f" ({visible(check.reason)})" if check.reason else ""
    click.echo(f"{check.seal.value:<9} {check.run_id} {shown(check.name, 60)}{reason}")
    for change in check.changes[:_MOST_NAMED]:
        click.echo(f"          {shown(str(change), 300)}")
    if (rest := len(check.changes) - _MOST_NAMED) > 0:
        click.echo(f"          and {rest} more; --json lists all.")


def _print_json(check: SealCheck) -> None:
    click.echo(
        json.dumps(
            {
                "run_id": check.run_id,
                "name": check.name,
                "seal": check.seal.value,
                "reason": check.reason,
                "changes": [asdict(change) for change in check.changes],
            }
        )
    )
