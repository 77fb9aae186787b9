"""``mlflow-carbon gate check``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlflow_carbon.cli._registry import (
    find_version,
    gate_pack,
    mlflow_errors,
    open_client,
    policy_option,
    store_options,
)
from mlflow_carbon.errors import OutputError

if TYPE_CHECKING:
    from mlflow_carbon.gate.judge import Verdict
    from mlflow_carbon.gate.refusal import Violation
    from mlflow_carbon.policy.model import Pack


@click.command()
@click.argument("model", metavar="models:/NAME/3")
@policy_option
@click.option(
    "--as-of",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    help="Decide as at this moment (UTC); default: now.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--junit", type=click.Path(path_type=Path), help="Write JUnit XML to this file too.")
@click.option(
    "--summary",
    type=click.Path(path_type=Path),
    help='Append Markdown to this file too, for example "$GITHUB_STEP_SUMMARY".',
)
@store_options
def check(
    model: str, policy: str | None, as_of: datetime | None, store: str | None, **options: Any
) -> None:
    """Say whether the policy lets a model version through, and if not, what stands in the way.

    Exit code: 0 it may be promoted, 1 it may not, 2 the policy is refused, 4 the evidence could not be read.
    """
    from mlflow_carbon.gate.judge import Sources, judge

    pack = gate_pack(policy)
    client = open_client(store, options["registry"])
    version = find_version(client, model)
    moment = datetime.now(timezone.utc) if as_of is None else as_of.replace(tzinfo=timezone.utc)
    with mlflow_errors(f"The evidence of {model} could not be read"):
        verdict = judge(pack, Sources(client, client), version.name, str(version.version), moment)
    what = f"{version.name} version {version.version}"
    if options["junit"]:
        _junit(options["junit"], what, pack, verdict)
    if options["summary"]:
        _summary(options["summary"], what, pack, verdict)
    if options["as_json"]:
        click.echo(
            json.dumps(_record(version, pack, verdict, moment), indent=2, ensure_ascii=False)
        )
    else:
        _show(what, pack, verdict)
    sys.exit(1 if verdict.violations else 0)


def _record(version: Any, pack: Pack, verdict: Verdict, moment: datetime) -> dict[str, object]:
    findings = verdict.decision.findings if verdict.decision else ()
    opened = verdict.decision.override if verdict.decision else None
    return {
        "model": version.name,
        "version": str(version.version),
        "policy": {"id": pack.id, "version": pack.version, "sha256": pack.sha256},
        "as_of": moment.isoformat(),
        "allowed": not verdict.violations,
        "overridden_by": opened.by if opened else None,
        "violations": [violation.as_dict() for violation in verdict.violations],
        "findings": [
            {
                "rule": finding.rule_id,
                "subject": finding.subject.label,
                "state": finding.state.value,
            }
            for finding in findings
        ],
    }


def _show(what: str, pack: Pack, verdict: Verdict) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console()
    # Text, never markup: names and findings come from the store and must not be read as styling.
    policy = f"policy {pack.id} {pack.version}"
    if verdict.violations:
        console.print(Text(f"May not be promoted: {what}, {policy}."), soft_wrap=True)
        console.print(violation_table(verdict.violations))
        return
    opened = verdict.decision.override if verdict.decision else None
    console.print(Text(f"May be promoted: {what}, {policy}."), soft_wrap=True)
    if opened:
        until = f"{opened.expires_at:%Y-%m-%d %H:%M} UTC" if opened.expires_at else "no end"
        console.print(
            Text(f"Overridden by {opened.by} ({opened.role}) until {until}: {opened.reason}"),
            soft_wrap=True,
        )


def violation_table(violations: Sequence[Violation]) -> Any:
    """What stands in the way, as a table for a terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table("Rule", "What stands in the way, and how to fix it", show_lines=True)
    for one in violations:
        rule = Text(f"{one.rule}\n{one.severity}\n{one.state.replace('_', ' ')}")
        table.add_row(rule, Text(f"{one.message}\nTo fix: {one.fix}" if one.fix else one.message))
    return table


def _junit(path: Path, what: str, pack: Pack, verdict: Verdict) -> None:
    from mlflow_carbon.gate.output import junit

    if verdict.decision is not None:
        _write(path, junit(what, pack, verdict.decision, verdict.violations), "w")


def _summary(path: Path, what: str, pack: Pack, verdict: Verdict) -> None:
    from mlflow_carbon.gate.output import markdown

    _write(path, markdown(what, pack, not verdict.violations, verdict.violations), "a")


def _write(path: Path, text: str, mode: str) -> None:
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}.") from None
