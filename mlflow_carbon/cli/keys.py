"""``mlflow-carbon keys``: make, list, replace and withdraw the keys that records and audits are signed with."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlflow_carbon.errors import DataError
from mlflow_carbon.settings import keys_folder, trusted_keys

if TYPE_CHECKING:
    from mlflow_carbon.signing.keys import SigningKey
    from mlflow_carbon.signing.trust import TrustedKey

_USES = ("evidence", "attestation", "audit", "witness")
_days = click.option(
    "--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="How long what it signs counts."
)  # fmt: skip


@click.group()
def command() -> None:
    """Make, list, replace and withdraw signing keys (ed25519).

    Private keys stay in your own folder (mode 0600); the list of trusted public keys is a file that
    you hand to everybody who checks: MLFLOW_CARBON_TRUSTED_KEYS names it.
    """


@command.command()
@click.argument("name")
@click.option("--owner", required=True, help="Whose key it is: a person's name, address or user name, or a service.")  # fmt: skip
@click.option("--use", "uses", multiple=True, required=True, type=click.Choice(_USES), help="What it may sign; repeatable.")  # fmt: skip
@_days
def generate(name: str, owner: str, uses: tuple[str, ...], days: int) -> None:
    """Make a key pair called NAME and trust its public half."""
    from mlflow_carbon.signing import keys, trust

    file, now = trusted_keys(), _now()
    if not owner.strip():
        raise click.UsageError("--owner is empty: say whose key it is.")
    known = trust.load(file)
    path = keys.path_of(keys_folder(), name)
    made = keys.create(path)
    key = trust.TrustedKey(
        key_id=made.key_id,
        name=name,
        owner=owner,
        uses=tuple(trust.Use(use) for use in dict.fromkeys(uses)),
        public=made.public,
        valid_from=now,
        valid_until=now + timedelta(days=days),
    )
    trust.save(file, known.with_key(key).keys.values())
    _told(key, path, file)


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_(as_json: bool) -> None:
    """List the trusted keys and whether what they sign counts now."""
    from mlflow_carbon.report.shown import shown
    from mlflow_carbon.signing import trust

    file, now = trusted_keys(), _now()
    found = sorted(trust.load(file).keys.values(), key=lambda key: (key.name, key.valid_from))
    if as_json:
        click.echo(json.dumps([_entry(key, now) for key in found], indent=1))
        return
    for key in found:
        uses = ", ".join(use.value for use in key.uses)
        click.echo(
            f"{shown(key.name, 30):20} {key.key_id[:16]}  {_state(key, now):12} "
            f"{key.valid_from:%Y-%m-%d} to {key.valid_until:%Y-%m-%d}  {uses}; {shown(key.owner, 60)}"
        )
    count = (
        "No key is" if not found else f"{len(found)} {'key is' if len(found) == 1 else 'keys are'}"
    )
    click.echo(f"{count} trusted: {file}")


@command.command()
@click.argument("name")
@_days
def rotate(name: str, days: int) -> None:
    """Replace the key NAME by a new one.

    What the old key signed until now still counts for records of runs and reports; statements and
    verdicts lapse with their key and have to be signed again. The old private key is gone.
    """
    from mlflow_carbon.signing import keys, trust

    file, now = trusted_keys(), _now()
    known = trust.load(file)
    old = known.named(name)
    if old.revoked_at is not None:
        raise DataError(
            f"The key {old.name} was revoked. Make another: mlflow-carbon keys generate."
        )
    path = keys.path_of(keys_folder(), old.name)
    keys.load(path)  # whoever does not hold the old key does not replace it
    made = keys.create(path, replace=True)
    new = replace(
        old,
        key_id=made.key_id,
        public=made.public,
        valid_from=now,
        valid_until=now + timedelta(days=days),
    )
    ended = replace(old, valid_until=min(old.valid_until, now))
    trust.save(file, known.with_key(ended).with_key(new).keys.values())
    click.echo(f"The key {old.key_id[:16]} signs nothing more from now on.")
    _told(new, path, file)


@command.command()
@click.argument("name")
@click.option("--because", required=True, help="Why; stands wherever one of its signatures is refused.")  # fmt: skip
def revoke(name: str, because: str) -> None:
    """Withdraw trust from the key NAME (or the one whose id begins so): nothing it ever signed counts.

    Hand out the list of trusted keys again afterwards: who has the old list still trusts the key.
    """
    from mlflow_carbon.signing import trust

    file = trusted_keys()
    known = trust.load(file)
    key = replace(known.named(name), revoked_at=_now(), revoked_because=because)
    trust.save(file, known.with_key(key).keys.values())
    click.echo(f"The key {key.name} ({key.key_id[:16]}) is revoked: {file}")


@command.command(name="import")
@click.argument("other", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def import_(other: Path) -> None:
    """Trust the keys in the list OTHER as well. A key revoked in either list stays revoked."""
    from mlflow_carbon.signing import trust

    file = trusted_keys()
    known = trust.load(file)
    added = 0
    for key in trust.load(other).keys.values():
        mine = known.keys.get(key.key_id)
        if mine is None or (mine.revoked_at is None and key.revoked_at is not None):
            known, added = known.with_key(key), added + 1
    trust.save(file, known.keys.values())
    click.echo(f"{added} {'key' if added == 1 else 'keys'} taken over from {other}: {file}")


def signing_key(name_or_file: str) -> SigningKey:
    """The private key a user means: a name in their own folder, or a file.

    Raises:
        DataError: it cannot be used.
    """
    from mlflow_carbon.signing import keys

    as_file = Path(name_or_file)
    if as_file.suffix == keys.EXTENSION or len(as_file.parts) > 1:
        return keys.load(as_file.expanduser())
    return keys.load(keys.path_of(keys_folder(), name_or_file))


def _told(key: TrustedKey, path: Path, file: Path) -> None:
    uses = ", ".join(use.value for use in key.uses)
    click.echo(f"Key {key.name} ({key.key_id[:16]}) of {key.owner}, for {uses}, valid until {key.valid_until:%Y-%m-%d}.")  # fmt: skip
    click.echo(f"  private, yours alone:   {path}")
    click.echo(f"  public, to be handed out: {file}")


def _state(key: TrustedKey, now: datetime) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if now > key.valid_until:
        return "expired"
    return "not yet" if now < key.valid_from else "valid"


def _entry(key: TrustedKey, now: datetime) -> dict[str, object]:
    return {
        "name": key.name,
        "id": key.key_id,
        "owner": key.owner,
        "uses": [use.value for use in key.uses],
        "state": _state(key, now),
        "valid_from": key.valid_from.isoformat(),
        "valid_until": key.valid_until.isoformat(),
        "revoked_because": key.revoked_because,
    }


def _now() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0)
