"""``mlflow-carbon policy``: check, list, show and test policies."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mlflow_carbon.policy.model import Pack


@click.group()
def command() -> None:
    """Check, list, show and test policies."""


@command.command()
@click.argument("policies", nargs=-1, required=True)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Set a parameter.")
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
    if refused is not None:
        sys.exit(refused.exit_code)


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_(as_json: bool) -> None:
    """List the policy packs that come with the package."""
    from mlflow_carbon.policy.load import shipped_packs

    packs = {name: _load(name, {}) for name in shipped_packs()}
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
def show(policy: str, rule: str | None) -> None:
    """Show a POLICY in plain words, or one RULE of it."""
    from mlflow_carbon.policy.words import pack_text, rule_text

    pack = _load(policy, {})
    if rule is None:
        click.echo(pack_text(pack))
        return
    found = {one.id: one for one in pack.rules}
    if rule not in found:
        raise click.UsageError(f"{policy} has no rule {rule}. It has {', '.join(found)}.")
    click.echo(rule_text(found[rule]))


@command.command()
@click.argument("policies", nargs=-1, required=True)
def test(policies: tuple[str, ...]) -> None:
    """Run the test cases inside POLICIES (files or shipped packs)."""
    from mlflow_carbon.policy.selftest import run_tests

    good = True
    for name in policies:
        pack = _load(name, {})
        outcome = run_tests(pack)
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
            f"{len(outcome.gaps)} gaps"
        )
        good = good and outcome.passed
    sys.exit(0 if good else 1)


def _load(name: str, parameters: dict[str, object]) -> Pack:
    from mlflow_carbon.policy.load import load_pack

    return load_pack(name, parameters)


def _parameters(settings: tuple[str, ...]) -> dict[str, object]:
    parameters: dict[str, object] = {}
    for setting in settings:
        name, found, value = setting.partition("=")
        if not found or not name:
            raise click.UsageError(f"--set {setting}: write it as NAME=VALUE.")
        parameters[name] = value
    return parameters
