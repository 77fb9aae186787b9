"""``mlflow-carbon gate status``, ``gate watch`` and ``gate ledger``: what became of what was promoted."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlflow_carbon.cli._registry import (
    gate_pack,
    mlflow_errors,
    open_client,
    policy_option,
    store_options,
)

if TYPE_CHECKING:
    from mlflow_carbon.gate.served import Standing
    from mlflow_carbon.policy.model import Pack

_LEDGER = click.option(
    "--ledger",
    type=click.Path(path_type=Path),
    help="The ledger's file; default: MLFLOW_CARBON_GATE_LEDGER, else in the user's state folder.",
)


def _standings(pack: Pack, client: Any, now: datetime) -> list[Standing]:
    from mlflow_carbon.gate import protection
    from mlflow_carbon.gate.served import served, standing

    with mlflow_errors("The registry could not be read"):
        found = list(served(client, protection.of(_gate(pack))))
        return [standing(pack, client, what, now) for what in found]


def _gate(pack: Pack) -> Any:
    from mlflow_carbon.errors import DataError

    if pack.gate is None:
        raise DataError(f"{pack.file} has no gate section, so nothing is behind the gate.")
    return pack.gate


@click.command()
@policy_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@store_options
def status(policy: str | None, as_json: bool, store: str | None, registry: str | None) -> None:
    """Ask again about everything behind protected names, and compare files with the approved ones.

    Exit code: 0 everything stands, 1 something does not, 2 the policy is refused, 4 the store could not be read.
    """
    pack = gate_pack(policy)
    found = _standings(pack, open_client(store, registry), datetime.now(timezone.utc))
    _tell(found, as_json)
    sys.exit(0 if all(one.stands for one in found) else 1)


@click.command()
@policy_option
@click.option(
    "--rollback", is_flag=True, help="Move an alias back to the last version that passes."
)
@_LEDGER
@store_options
def watch(
    policy: str | None,
    rollback: bool,
    ledger: Path | None,
    store: str | None,
    registry: str | None,
) -> None:
    """One pass for a scheduler: as `gate status`, and with --rollback moves fallen aliases back.

    Exit code as `gate status`; an alias that was moved back still counts as fallen.
    """
    from mlflow_carbon.evidence.ledger import Ledger
    from mlflow_carbon.gate.rollback import move_back
    from mlflow_carbon.settings import gate_ledger

    pack, now = gate_pack(policy), datetime.now(timezone.utc)
    client, kept = open_client(store, registry), Ledger(ledger or gate_ledger())
    found = _standings(pack, client, now)
    _tell(found, False)
    fallen = [one for one in found if not one.stands]
    for one in fallen if rollback else ():
        with mlflow_errors(f"Alias '{one.served.alias}' of '{one.served.name}' was not moved"):
            click.echo(move_back(pack, client, one, kept, now, remove=False))
    sys.exit(1 if fallen else 0)


@click.command("ledger")
@_LEDGER
@click.option("--json", "as_json", is_flag=True, help="Print every entry as JSON.")
def show_ledger(ledger: Path | None, as_json: bool) -> None:
    """Show the gate's decisions, and whether anybody changed, removed or moved one.

    Exit code: 0 the chain is whole, 1 it is not, 4 it could not be read.
    """
    from mlflow_carbon.evidence.ledger import Ledger
    from mlflow_carbon.settings import gate_ledger

    chain = Ledger(ledger or gate_ledger()).read()
    for entry in chain.entries:
        if as_json:
            record = {"number": entry.number, "at": entry.at.isoformat(), **entry.said}
            click.echo(json.dumps(record, ensure_ascii=False))
        else:
            who = entry.said.get("by") or "unknown"
            action, outcome = entry.said.get("action", ""), entry.said.get("outcome", "")
            line = f"{entry.number} {entry.at:%Y-%m-%d %H:%M:%S} {outcome}: {action} (by {who})"
            click.echo("".join(c if c.isprintable() else " " for c in line))
    for fault in chain.faults:
        click.echo(fault, err=True)
    click.echo(f"{len(chain.entries)} entries, head {chain.head}", err=True)
    sys.exit(1 if chain.faults else 0)


def _tell(found: list[Standing], as_json: bool) -> None:
    if as_json:
        record = [
            {
                "model": one.served.name,
                "version": one.served.version,
                "through": one.served.through,
                "stands": one.stands,
                "files": one.files,
                "violations": [violation.as_dict() for violation in one.violations],
            }
            for one in found
        ]
        click.echo(json.dumps(record, indent=2, ensure_ascii=False))
        return
    _show(found)


def _show(found: list[Standing]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from mlflow_carbon.cli._gate_check import violation_table

    console = Console()
    if not found:
        console.print("Nothing is behind a protected name.")
        return
    table = Table("Model", "Version", "Through", "Policy", "Files")
    for one in found:
        verdict = "stands" if one.stands else f"{len(one.violations)} in the way"
        cells = (one.served.name, one.served.version, one.served.through, verdict, one.files)
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    for one in found:
        if not one.stands:
            title = f"{one.served.name} version {one.served.version}, {one.served.through}:"
            console.print(Text(title), soft_wrap=True)
            console.print(violation_table(one.violations))
