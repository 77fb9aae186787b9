"""``mlflow-carbon gate verdict``: an auditor's signed answer, for a gate that does not look itself."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from pathlib import Path

import click

from mlflow_carbon.cli._gate_check import violation_table
from mlflow_carbon.cli._integrity import attestations, seal_check
from mlflow_carbon.cli._registry import (
    find_version,
    gate_pack,
    mlflow_errors,
    open_client,
    policy_option,
    store_options,
)
from mlflow_carbon.cli.keys import signing_key


@click.command()
@click.argument("model", metavar="models:/NAME/3")
@policy_option
@click.option("--key", required=True, help="Private key (name or file) for the use audit.")
@click.option("--seals", is_flag=True, help="Compare the training run with its seal.")
@click.option("--ledger", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="What a witness saw. Implies --seals.")  # fmt: skip
@click.option("--attestation", "files", multiple=True, type=click.Path(path_type=Path, exists=True, dir_okay=False), help="File of signed statements; repeatable.")  # fmt: skip
@store_options
def verdict(
    model: str,
    key: str,
    seals: bool,
    ledger: Path | None,
    files: tuple[Path, ...],
    **where: str | None,
) -> None:
    """Audit a model version now, sign the verdict and put it on the version.

    A gate whose policy sets verdict_max_age_hours goes by it as long as it is fresh and neither the
    evidence, nor the policy, nor the version it was compared with has changed. A refusal is signed too.

    Exit code: 0 the verdict lets it through, 1 it does not.
    """
    from mlflow_carbon.audit.seals import Comparisons
    from mlflow_carbon.evidence.attestation import binding
    from mlflow_carbon.gate import verdict as verdicts
    from mlflow_carbon.gate.judge import Sources, decide_live
    from mlflow_carbon.gate.refusal import violation
    from mlflow_carbon.schema import RegistryTag
    from mlflow_carbon.signing import statement

    own, pack = signing_key(key), gate_pack(where["policy"])
    client = open_client(where["store"], where["registry"])
    version = find_version(client, model)
    name, number = str(version.name), str(version.version)
    check = seal_check(where["store"] or client.tracking_uri, ledger) if seals or ledger else None
    known = Comparisons(check, attestations(files)).of_version
    now = datetime.now(timezone.utc).replace(microsecond=0)
    with mlflow_errors("No verdict was given"):
        sources = Sources(client, client, known=known)
        compared = verdicts.baselines(pack, sources, name)
        evidence = verdicts.read(sources, name, number)
        _, decision = decide_live(pack, sources, name, number, now)
        said = verdicts.predicate(pack, evidence, decision, compared)
        subject = {f"models:/{name}/{number}": binding(version)}
        text = statement.sign(statement.Kind.VERDICT, subject, said, own, now)
        client.set_model_version_tag(name, number, RegistryTag.VERDICT, text)
    blocking = [violation(finding) for finding in decision.blocking]
    click.echo(f"On record at models:/{name}/{number}: {'refused' if blocking else 'may be promoted'}, policy {pack.id} {pack.version}, signed by key {own.key_id[:16]}.")  # fmt: skip
    if blocking:
        from rich.console import Console

        Console().print(violation_table(blocking))
        sys.exit(1)
