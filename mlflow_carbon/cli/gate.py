"""``mlflow-carbon gate``: ask, before anybody else does, whether a model version may be promoted."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from mlflow_carbon.cli._registry import find_version, mlflow_errors, open_client, store_options

if TYPE_CHECKING:
    from mlflow_carbon.gate.decision import Decision
    from mlflow_carbon.policy.model import Pack

_DEFAULT_POLICY = "promotion-gate"


@click.group()
def command() -> None:
    """Ask whether a model version may be promoted."""


@command.command()
@click.argument("model", metavar="models:/NAME/3")
@click.option(
    "--policy",
    help=f"Pack name or file; default: the gate's own (MLFLOW_CARBON_GATE_POLICY), else {_DEFAULT_POLICY}.",
)
@click.option(
    "--as-of",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    help="Decide as at this moment (UTC); default: now.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@store_options
def check(
    model: str,
    policy: str | None,
    as_of: datetime | None,
    as_json: bool,
    store: str | None,
    registry: str | None,
) -> None:
    """Say whether the policy lets a model version through, and if not, what stands in the way.

    Exit code: 0 it may be promoted, 1 it may not, 2 the policy is refused, 4 the evidence could not be read.
    """
    from mlflow_carbon import settings
    from mlflow_carbon.evidence.lineage import read_version
    from mlflow_carbon.gate.decision import decide
    from mlflow_carbon.policy.load import load_pack

    pack = load_pack(policy or settings.gate_policy() or _DEFAULT_POLICY)
    client = open_client(store, registry)
    version = find_version(client, model)
    with mlflow_errors(f"The evidence of {model} could not be read"):
        evidence = read_version(client, client, version.name, version.version)
    moment = datetime.now(timezone.utc) if as_of is None else as_of.replace(tzinfo=timezone.utc)
    decision = decide(pack, evidence, moment)
    if as_json:
        click.echo(
            json.dumps(_record(version, pack, decision, moment), indent=2, ensure_ascii=False)
        )
    else:
        _show(version, pack, decision)
    sys.exit(0 if decision.allowed else 1)


def _record(version: Any, pack: Pack, decision: Decision, moment: datetime) -> dict[str, object]:
    from mlflow_carbon.gate.refusal import violations_of

    return {
        "model": version.name,
        "version": version.version,
        "policy": {"id": pack.id, "version": pack.version, "sha256": pack.sha256},
        "as_of": moment.isoformat(),
        "allowed": decision.allowed,
        "violations": [
            violation.as_dict()
            for violation in (() if decision.allowed else violations_of(decision))
        ],
        "findings": [
            {
                "rule": finding.rule_id,
                "subject": finding.subject.label,
                "state": finding.state.value,
            }
            for finding in decision.findings
        ],
    }


def _show(version: Any, pack: Pack, decision: Decision) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from mlflow_carbon.gate.refusal import violations_of

    console = Console()
    # Text, never markup: names and findings come from the store and must not be read as styling.
    what = f"{version.name} version {version.version}, policy {pack.id} {pack.version}"
    if decision.allowed:
        console.print(Text(f"May be promoted: {what} ({len(decision.findings)} answers)."))
        return
    console.print(Text(f"May not be promoted: {what}."))
    table = Table("Rule", "Severity", "State", "What was found", "How to fix", show_lines=True)
    for violation in violations_of(decision):
        cells = (
            violation.rule,
            violation.severity,
            violation.state.replace("_", " "),
            violation.message,
            violation.fix,
        )
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
