"""Facts as lines of a spool file, and a spool file's lines as facts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from mlflow_carbon.energy.integrate import ordered
from mlflow_carbon.energy.ledger import PowerPoint, Progress, RunEnergy
from mlflow_carbon.errors import DataError
from mlflow_carbon.redact import redacted
from mlflow_carbon.tracking.facts import (
    Base,
    Exit,
    Facts,
    Json,
    Origin,
    energy_from_json,
    energy_to_json,
)
from mlflow_carbon.tracking.ranks import Place

if TYPE_CHECKING:
    from mlflow_carbon.tracking.sealing import Seal

VERSION = 1


_RELATIVE_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)(?!/|:memory:|$)(.*)", re.DOTALL)


def absolute(uri: str, folder: str) -> str:
    """An address that means the same from any working directory; ``folder`` is where it was used."""
    if found := _RELATIVE_SQLITE.fullmatch(uri):
        return f"{found[1]}{PurePath(folder, found[2])}"
    named = ":" in uri or uri in ("", "databricks", "databricks-uc", "uc")
    return uri if named else str(PurePath(folder, uri))


def facts_to_line(facts: Facts, *, power_after_s: float) -> Json:
    """One line: all facts, of the power series only what came after ``power_after_s``."""
    line = asdict(replace(facts, energy=None))
    line["tracking_uri"] = redacted(facts.tracking_uri)
    line["energy"] = None
    if facts.energy is not None:
        line["energy"] = energy_to_json(facts.energy, power_after_s=power_after_s)
    return {"version": VERSION, "facts": line}


def energy_to_line(energy: RunEnergy, *, power_after_s: float) -> Json:
    """One line: a later account, everything else as in the line before."""
    return {"version": VERSION, "energy": energy_to_json(energy, power_after_s=power_after_s)}


def progress_to_line(progress: Progress) -> Json:
    """One line: what came to the last account. Written after each reading, so short."""
    later = {
        "after_s": progress.after_s,
        "duration_s": progress.duration_s,
        "covered_s": progress.covered_s,
        "added_j": {part.value: figures for part, figures in progress.added_j.items()},
    }
    return {"version": VERSION, "later": later}


def power_end_s(energy: RunEnergy | None) -> float:
    """Where the power series ends; -1 before its first point."""
    return energy.power[-1].at_s if energy is not None and energy.power else -1.0


def facts_from_lines(lines: Sequence[Json]) -> Facts:
    """The latest facts of a spool file, with the power series put together again.

    Raises:
        DataError: no line can be read, or they are from a version we do not know.
    """
    latest: Facts | None = None
    later: Json = {}
    power: list[PowerPoint] = []
    for line in lines:
        later = line.get("later", later)
        if not line.keys() & {"facts", "energy"}:
            continue
        if line.get("version") != VERSION:
            raise DataError(
                f"spool version {line.get('version')!r} is not known; it knows {VERSION}."
            )
        latest = _facts(line["facts"]) if "facts" in line else _later(latest, line["energy"])
        if latest is not None and latest.energy is not None:
            power.extend(p for p in latest.energy.power if not power or p.at_s > power[-1].at_s)
    if latest is None:
        raise DataError("the spool file holds no complete line.")
    if latest.energy is None:
        return latest
    energy = replace(latest.energy, power=tuple(power))
    if later.get("after_s") == energy.duration_s:
        energy = _continued(energy, later)
    return replace(latest, energy=energy)


def _continued(energy: RunEnergy, later: Json) -> RunEnergy:
    """An account with what came to it after it was made."""
    try:
        duration_s, covered_s = float(later["duration_s"]), float(later["covered_s"])
        whole_s = max(energy.duration_s, duration_s)
        components = []
        for part in energy.components:
            figures = [max(0.0, float(joules)) for joules in later["added_j"][part.component.value]]
            coverage = (part.coverage * energy.duration_s + covered_s) / whole_s
            more = replace(
                part,
                attributed_j=part.attributed_j + ordered(*figures[:3]),
                boundary_j=part.boundary_j + ordered(*figures[3:]),
                coverage=min(1.0, coverage),
            )
            components.append(more)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(error) from error
    return replace(energy, duration_s=whole_s, components=tuple(components))


def _later(latest: Facts | None, energy: Json) -> Facts | None:
    if latest is None:
        return None
    try:
        return replace(latest, energy=energy_from_json(energy))
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(error) from error


def _damaged(error: Exception) -> DataError:
    return DataError(f"the spool file is damaged: {type(error).__name__}: {error}")


def _facts(data: Json) -> Facts:
    try:
        return Facts(
            run_id=str(data["run_id"]),
            tracking_uri=str(data["tracking_uri"]),
            origin=Origin(data["origin"]),
            opened_at=str(data["opened_at"]),
            process_id=int(data["process_id"]),
            place=None if data.get("place") is None else Place(**data["place"]),
            hardware=str(data["hardware"]),
            unseen_s=float(data["unseen_s"]),
            energy=None if data["energy"] is None else energy_from_json(data["energy"]),
            ended_at=str(data["ended_at"]),
            exit=None if data["exit"] is None else Exit(data["exit"]),
            parent=bool(data["parent"]),
            datasets=tuple(data["datasets"]),
            troubles=tuple(data["troubles"]),
            base=None if data["base"] is None else Base(**data["base"]),
            pushed=dict(data["pushed"]),
            declared=dict(data["declared"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(error) from error


def sealed_line(seal: Seal, step: int) -> Json:
    """The sealed documents as they are about to be delivered, so that a later try delivers the same bytes."""
    sealed: Json = {
        "document": seal.document.decode(),
        "path": seal.path,
        "param": seal.param,
        "step": step,
    }
    if seal.provenance is not None:
        content = seal.provenance.content.decode()
        sealed["provenance"] = {"path": seal.provenance.path, "content": content}
    return {"version": VERSION, "sealed": sealed}


def seal_of(sealed: Json) -> Seal:
    """The seal of such a line.

    Raises:
        KeyError, TypeError: the line is damaged.
    """
    from mlflow_carbon.tracking.provenance import Attachment
    from mlflow_carbon.tracking.sealing import Seal

    attached = sealed.get("provenance")
    return Seal(
        path=str(sealed["path"]),
        param=str(sealed["param"]),
        document=str(sealed["document"]).encode(),
        provenance=None
        if attached is None
        else Attachment(str(attached["path"]), str(attached["content"]).encode()),
    )


def sealed_from_lines(lines: Sequence[Json]) -> Json | None:
    """The last sealed document of a spool file, if it got that far."""
    found = [line["sealed"] for line in lines if isinstance(line.get("sealed"), dict)]
    return found[-1] if found else None
