"""``mlflow-carbon gate approve`` and ``gate override``: a person takes responsibility, by name."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, time, timedelta, timezone
from typing import Any

import click

from mlflow_carbon.cli._registry import find_version, mlflow_errors, open_client, store_options
from mlflow_carbon.errors import OutputError


def _person(function: Any) -> Any:
    for option in (
        click.option("--reason", required=True, help="What was looked at, or why it cannot wait."),
        click.option("--role", required=True, help="In which role, for example 'head of risk'."),
        click.option(
            "--by", required=True, help="Who; where the server has users, the user's name."
        ),
    ):
        function = option(function)
    return function


@click.command()
@click.argument("model", metavar="models:/NAME/3")
@_person
@click.option(
    "--expires", type=click.DateTime(["%Y-%m-%d"]), help="Last day (UTC) on which it counts."
)
@store_options
def approve(
    model: str, expires: datetime | None, store: str | None, registry: str | None, **words: str
) -> None:
    """Approve a model version, with the files it has now.

    The files are read and their hashes kept: a file replaced later shows in `gate status`.
    """
    from mlflow_carbon.evidence import manifest
    from mlflow_carbon.gate.attest import record_statement
    from mlflow_carbon.gate.people import APPROVED

    client = open_client(store, registry)
    version = find_version(client, model)
    name, number = version.name, str(version.version)
    end = None if expires is None else datetime.combine(expires, time(23, 59, 59), timezone.utc)
    with mlflow_errors("Nothing was approved"):
        try:
            files = manifest.take(client, name, number)
        except OSError as error:
            raise OutputError(f"The files of {model} could not be read: {error}") from None
        client.set_model_version_tag(name, number, manifest.TAG, files.to_text())
        made = replace(_stated(APPROVED, words, end), reference=files.reference)
        record_statement(client, name, number, made)
    click.echo(
        f"Approved models:/{name}/{number} by {words['by']}, with {len(files.files or ())} files "
        f"(sha256 {files.root[:16]}...)."
    )


@click.command()
@click.argument("model", metavar="models:/NAME/3")
@_person
@click.option(
    "--hours",
    type=click.IntRange(1),
    required=True,
    help="For how long the gate stays open for this version.",
)
@store_options
def override(model: str, hours: int, store: str | None, registry: str | None, **words: str) -> None:
    """Open the gate for one version for a limited time, in spite of the policy.

    Counts only for people the policy names under `overriders`, and no longer than it grants.
    Every promotion it lets through is entered in the ledger with this name and reason.
    """
    from mlflow_carbon.gate.attest import record_statement
    from mlflow_carbon.gate.people import OVERRIDE

    client = open_client(store, registry)
    version = find_version(client, model)
    end = datetime.now(timezone.utc) + timedelta(hours=hours)
    with mlflow_errors("Nothing was overridden"):
        record_statement(client, version.name, version.version, _stated(OVERRIDE, words, end))
    click.echo(
        f"The gate is open for models:/{version.name}/{version.version} until "
        f"{end:%Y-%m-%d %H:%M} UTC, if the policy lets {words['by']} override."
    )


def _stated(kind: str, words: dict[str, str], expires: datetime | None) -> Any:
    from mlflow_carbon.evidence.model import Attestation
    from mlflow_carbon.gate.people import statement_of

    now = datetime.now(timezone.utc).replace(microsecond=0)
    return Attestation(
        statement=statement_of(kind, words["by"]), made_at=now, expires_at=expires, **words
    )
