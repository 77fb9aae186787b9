"""``mlflow-carbon policy``: write, check, test, explain and compare policies."""

from __future__ import annotations

import json
import sys
from datetime import datetime, time, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlflow_carbon.errors import OutputError

if TYPE_CHECKING:
    from mlflow_carbon.policy.model import Pack, Rule

_SET = click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="Set a parameter."
)


@click.group()
def command() -> None:
    """Write, check, test, explain and compare policies."""


@command.command()
@click.argument("policies", nargs=-1, required=True)
@_SET
def check(policies: tuple[str, ...], settings: tuple[str, ...]) -> None:
    """Read POLICIES (files or shipped packs) and say everything that is wrong in them."""
    from mlflow_carbon.errors import CarbonError

    parameters = _parameters(settings)
    refused: CarbonError | None = None
    for name in policies:
        try:
            pack = _load(name, parameters)
        except CarbonError as error:
            click.echo(str(error), err=True)
            refused = error
            continue
        click.echo(f"{name}: sound; {pack.id} {pack.version}, {len(pack.rules)} rules")
        for sentence in pack.loosened:
            click.echo(f"  looser: {sentence}")
        today = datetime.now(timezone.utc).date()
        for waiver in pack.waivers:
            if waiver.expires < today:
                click.echo(f"  waiver {waiver.id} has no force: it expired on {waiver.expires}")
        if pack.waivers and not any(rule.scope.value == "policy" for rule in pack.rules):
            click.echo(
                "  no rule here makes an expired waiver a finding; "
                "add to 'use': {rule: nist-ai-rmf-core/GOV-003}"
            )
    if refused is not None:
        sys.exit(refused.exit_code)


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_(as_json: bool) -> None:
    """List the policy packs that come with the package."""
    packs = _shipped()
    if as_json:
        listed = [
            {
                "name": name,
                "id": p.id,
                "version": p.version,
                "title": p.title,
                "rules": len(p.rules),
            }
            for name, p in packs.items()
        ]
        click.echo(json.dumps(listed, indent=1))
        return
    for name, pack in packs.items():
        click.echo(f"{name:20} {len(pack.rules):3} rules  {pack.title} ({pack.version})")


@command.command()
@click.argument("policy")
@click.argument("rule", required=False)
@_SET
def show(policy: str, rule: str | None, settings: tuple[str, ...]) -> None:
    """Show a POLICY in plain words, or one RULE of it."""
    from mlflow_carbon.policy.words import pack_text, rule_text

    pack = _load(policy, _parameters(settings))
    click.echo(pack_text(pack) if rule is None else rule_text(_rule(pack, policy, rule)))


@command.command()
@click.argument("policies", nargs=-1, required=True)
@click.option("--junit", type=click.Path(path_type=Path), help="Also write JUnit XML here, for CI.")
def test(policies: tuple[str, ...], junit: Path | None) -> None:
    """Run the test cases inside POLICIES (files or shipped packs)."""
    from mlflow_carbon.policy.junit import junit_xml
    from mlflow_carbon.policy.selftest import run_tests

    outcomes = {name: run_tests(_load(name, {})) for name in policies}
    for name, outcome in outcomes.items():
        for case in outcome.cases:
            if not case.passed:
                click.echo(
                    f"{case.test.at}: {case.rule.id} '{case.test.name}': expected "
                    f"{case.test.expect.value}, got {case.answer.state.value}. {case.answer.message}"
                )
        for gap in outcome.gaps:
            click.echo(f"{name}: {gap}")
        failed = sum(not case.passed for case in outcome.cases)
        click.echo(
            f"{name}: {len(outcome.cases) - failed} of {len(outcome.cases)} cases as expected, "
            f"{_number(len(outcome.gaps), 'gap')}"
        )
    if junit is not None:
        _write(junit, junit_xml(outcomes))
    sys.exit(0 if all(outcome.passed for outcome in outcomes.values()) else 1)


@command.command()
@click.argument("rule")
@click.argument("subject")
@click.option(
    "--policy", "policies", multiple=True, help="Pack or file with the rule; default: all shipped."
)
@click.option("--store", envvar="MLFLOW_TRACKING_URI", help="Address of the MLflow store.")
@click.option("--as-of", metavar="DATE", help="As of the end of this day (UTC); default: now.")
def explain(
    rule: str, subject: str, policies: tuple[str, ...], store: str | None, as_of: str | None
) -> None:
    """Say why RULE answers as it does on SUBJECT: a run id, models:/NAME/VERSION, or a model's name."""
    from mlflow_carbon.policy import explain as tree

    packs = {name: _load(name, {}) for name in policies} or _shipped()
    name = next(
        (name for name, pack in packs.items() if any(r.id == rule for r in pack.rules)), None
    )
    if name is None:
        raise click.UsageError(f"no rule is called {rule} in {', '.join(packs)}.")
    moment = _moment(as_of)
    from mlflow_carbon.cli import _policy_store  # imports MLflow: some seconds

    one = _rule(packs[name], name, rule)
    found = list(_policy_store.subjects(packs[name], one, subject, store, moment))
    for evidence in found:
        click.echo("\n".join(tree.explain(one, evidence, moment)))
    if not found:
        click.echo(f"{subject} has nothing that {rule} is about ({one.scope.value}).")


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
def new(file: Path) -> None:
    """Write a small policy to start from to FILE."""
    from mlflow_carbon import resources

    if file.exists():
        raise OutputError(f"{file} exists already and was left alone. Name another file.")
    _write(file, (resources.policies() / "starter.yaml").read_bytes())
    click.echo(f"{file} written. Edit it, then run: mlflow-carbon policy check {file}")


@command.command()
@click.argument("old")
@click.argument("new", metavar="NEW")
@click.option(
    "--store", envvar="MLFLOW_TRACKING_URI", help="Compare the verdicts on this store too."
)
@click.option("--as-of", metavar="DATE", help="As of the end of this day (UTC); default: now.")
def diff(old: str, new: str, store: str | None, as_of: str | None) -> None:
    """Say which rules differ between the policies OLD and NEW, and which verdicts change on a store."""
    from mlflow_carbon.policy.difference import changed_counts, changed_rules, changed_verdicts
    from mlflow_carbon.report.shown import shown

    before, after = _load(old, {}), _load(new, {})
    changes = changed_rules(before, after)
    for change in changes:
        click.echo(f"{change.rule}: {change.what}")
    click.echo(f"{_number(len(changes), 'difference')} in the rules")
    if store is None:
        return
    moment = _moment(as_of)
    from mlflow_carbon.cli._policy_store import verdicts  # imports MLflow: some seconds

    was, now = verdicts(before, store, moment), verdicts(after, store, moment)
    for rule, counted, recounted in changed_counts(was, now):
        click.echo(f"{rule}: {counted} -> {recounted}")
    changed = changed_verdicts(was, now)
    for rule, subject, one, other in changed:
        click.echo(f"{rule} on {shown(subject, 200)}: {one} -> {other}")
    subjects = len({one[1] for one in changed})
    found = f"{_number(len(changed), 'verdict')} changed on {_number(subjects, 'subject')}"
    if left_out := max(was.left_out, now.left_out):
        found += f" among the answers that were compared one by one; {left_out:,} more are in the counts only."
    click.echo(found)


def _number(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


@command.command()
@click.argument("policies", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def coverage(policies: tuple[str, ...], as_json: bool) -> None:
    """Show which controls the rules of POLICIES (default: all shipped) bear on, and which none does."""
    from mlflow_carbon.policy.coverage import coverage as crosswalk
    from mlflow_carbon.policy.coverage import coverage_text

    packs = [_load(name, {}) for name in policies] or list(_shipped().values())
    covered = crosswalk(packs)
    if as_json:
        listed = {
            one.framework.ref: {c.control.id: [c.control.cls, *c.rules] for c in one.controls}
            for one in covered
        }
        click.echo(json.dumps(listed, indent=1))
        return
    click.echo("\n\n".join(map(coverage_text, covered)))


@command.command()
def schema() -> None:
    """Print the JSON schema of policy files, for editors."""
    from mlflow_carbon.policy import published

    click.echo(published.text(), nl=False)


@command.command()
def handbook() -> None:
    """Print every shipped rule as Markdown: docs/rules.md."""
    from mlflow_carbon.policy import handbook as document

    click.echo(document.handbook(_shipped()), nl=False)


def _load(name: str, parameters: dict[str, object]) -> Pack:
    from mlflow_carbon.policy.load import load_pack

    return load_pack(name, parameters)


def _shipped() -> dict[str, Pack]:
    from mlflow_carbon.policy.load import shipped_packs

    return {name: _load(name, {}) for name in shipped_packs()}


def _rule(pack: Pack, name: str, rule: str) -> Rule:
    found = {one.id: one for one in pack.rules}
    if rule not in found:
        raise click.UsageError(f"{name} has no rule {rule}. It has {', '.join(found)}.")
    return found[rule]


def _parameters(settings: tuple[str, ...]) -> dict[str, object]:
    parameters: dict[str, object] = {}
    for setting in settings:
        name, found, value = setting.partition("=")
        if not found or not name:
            raise click.UsageError(f"--set {setting}: write it as NAME=VALUE.")
        parameters[name] = value
    return parameters


def _moment(text: str | None) -> datetime:
    if text is None:
        return datetime.now(timezone.utc)
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=timezone.utc)
    except ValueError:
        raise click.UsageError(f"--as-of {text}: write it as 2026-11-30.") from None
    return datetime.combine(day.date(), time(23, 59, 59), timezone.utc)


def _write(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as error:
        raise OutputError(f"{file} cannot be written: {error.strerror}.") from None
