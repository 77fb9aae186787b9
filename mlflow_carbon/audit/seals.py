"""What an audit knows beyond the store: runs compared with their seals, and attestations read from files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa

from mlflow_carbon.audit.select import Progress, Registered
from mlflow_carbon.evidence.attestation import with_attestations
from mlflow_carbon.evidence.columns import Column, Kind
from mlflow_carbon.evidence.model import Attestation, Evidence
from mlflow_carbon.evidence.sealed import SealCheck
from mlflow_carbon.evidence.tables import Tables
from mlflow_carbon.evidence.trees import text

_COLUMNS = {
    "state": Kind.TEXT,
    "changed": Kind.LIST,
    "signature": Kind.TEXT,
    "signed_by": Kind.TEXT,
    "witnessed": Kind.TIME,
}


@dataclass(frozen=True, slots=True)
class Comparisons:
    """Each run compared with its seal once, when it is first asked for. Without ``check`` nothing is known."""

    check: Callable[[str], SealCheck] | None
    attested: Mapping[str, tuple[Attestation, ...]] = field(default_factory=dict)
    made: dict[str, SealCheck] = field(default_factory=dict)

    def of_all(self, run_ids: Iterable[str], progress: Progress) -> tuple[SealCheck, ...] | None:
        """The comparisons of these runs, by run id; ``None`` when none are made."""
        if self.check is None:
            return None
        ids = sorted(run_ids)
        for done, run_id in enumerate(ids):
            progress("Comparing runs with their seals", done, len(ids))
            self._of(run_id)
        progress("Comparing runs with their seals", len(ids), len(ids))
        return tuple(self.made[run_id] for run_id in ids)

    def _of(self, run_id: str) -> SealCheck | None:
        if self.check is None:
            return None
        if run_id not in self.made:
            self.made[run_id] = self.check(run_id)
        return self.made[run_id]

    def known(self, evidence: Evidence) -> Evidence:
        """The evidence of a run, dataset or version with what is known of the (training) run's seal."""
        run_id = text(evidence, "run.id")
        found = self._of(run_id) if run_id else None
        if found is None:
            return evidence
        members = {
            name: tuple(map(self.known, group)) if name in ("datasets", "training_run") else group
            for name, group in evidence.members.items()
        }
        return replace(evidence, facts={**evidence.facts, **found.facts()}, members=members)

    def of_models(self, registered: Registered) -> Registered:
        """The same models and versions, each as ``of_version`` has it."""
        return replace(registered, versions=tuple(map(self.of_version, registered.versions)))

    def of_version(self, version: Evidence) -> Evidence:
        """A version with what is known of its training run's seal and what was attested in files."""
        return with_attestations(self.known(version), self.attested)


def in_columns(tables: Tables, comparisons: Iterable[SealCheck]) -> Tables:
    """The same tables; the runs have columns for the facts ``seal.*``."""
    found = [(one.run_id, one.facts()) for one in comparisons]

    def values(name: str) -> list[object]:
        return [facts[name].value if name in facts else None for _, facts in found]

    table = pa.table(
        {
            "run_uuid": pa.array([run_id for run_id, _ in found], pa.string()),
            "seal_state": pa.array(values("seal.state"), pa.string()),
            "seal_changed": pa.array(map(_listed, values("seal.changed")), pa.list_(pa.string())),
            "seal_signature": pa.array(values("seal.signature"), pa.string()),
            "seal_signed_by": pa.array(values("seal.signed_by"), pa.string()),
            "seal_witnessed": pa.array(values("seal.witnessed"), pa.timestamp("ms", "UTC")),
        }
    )
    tables.con.register("seals", table)
    tables.con.execute(
        "CREATE TABLE run_sealed AS SELECT run.*, seals.* EXCLUDE (run_uuid)"
        " REPLACE (epoch_ms(seal_witnessed) AS seal_witnessed)"
        " FROM run LEFT JOIN seals USING (run_uuid)"
    )
    tables.con.unregister("seals")
    tables.con.execute("DROP TABLE run")
    tables.con.execute("ALTER TABLE run_sealed RENAME TO run")
    columns = {f"seal.{key}": Column("run", f"seal_{key}", kind) for key, kind in _COLUMNS.items()}
    return replace(tables, columns={**tables.columns, **columns})


def _listed(value: object) -> list[str] | None:
    return list(map(str, value)) if isinstance(value, tuple) else None
