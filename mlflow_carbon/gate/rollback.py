"""Back to the last version that passes, when the one behind an alias no longer does."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from mlflow_carbon.evidence.ledger import Chain, Ledger
from mlflow_carbon.gate.record import promotions
from mlflow_carbon.gate.served import Served, Standing, standing, versions
from mlflow_carbon.policy.model import Pack


def fallback(pack: Pack, client: Any, fallen: Served, chain: Chain, as_of: datetime) -> str | None:
    """The version to go back to; ``None`` when there is none.

    First those that were promoted to this alias before, the last one first; then older versions, newest first.
    """
    there = [str(one.version) for one in versions(client, fallen.name)]
    older = [version for version in there if int(version) < int(fallen.version)]
    for version in dict.fromkeys([*promotions(chain, fallen.name, fallen.alias), *older]):
        candidate = Served(fallen.name, version, fallen.through, fallen.alias)
        tried = version != fallen.version and version in there
        if tried and standing(pack, client, candidate, as_of).stands:
            return version
    return None


def move_back(
    pack: Pack, client: Any, fallen: Standing, ledger: Ledger, as_of: datetime, *, remove: bool
) -> str:
    """Move the fallen alias back, enter it in the ledger, and say what was done.

    ``remove``: take the alias away where no version passes; otherwise it stays where it is.

    Raises:
        MlflowException: the registry does not let us.
        OutputError: it could not be entered (the alias has been moved).
    """
    what = fallen.served
    if not what.alias:
        return f"{what.name} version {what.version}: no alias to move ({what.through})."
    target = fallback(pack, client, what, ledger.read(), as_of)
    if target is not None:
        client.set_registered_model_alias(what.name, what.alias, target)
        done = f"alias {what.alias} moved back to version {target}"
    elif remove:
        client.delete_registered_model_alias(what.name, what.alias)
        done = f"no version passes; alias {what.alias} removed"
    else:
        return f"{what.name}: no other version passes; alias {what.alias} stays."
    ledger.append(
        {
            "outcome": "rolled back",
            "action": f"Alias '{what.alias}' of '{what.name}' version {what.version}: {done}",
            "model": what.name,
            "version": target or "",
            "violations": [f"{one.rule} {one.state}" for one in fallen.violations],
        },
        as_of,
    )
    return f"{what.name}: {done}."
