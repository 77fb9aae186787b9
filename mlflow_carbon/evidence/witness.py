"""A witness: somebody other than the trainer who reads runs soon after their end and keeps what was seen.

Each run seen is a line of an append-only ledger (``ledger.py``): the digest of its record, and path,
size and SHA-256 of every artifact. Each round ends with a line that the witness signs; it names the hash
of the line before, and so all lines up to there. This shows what the holder of the training key could
still hide: when a record was there, that a run has vanished, that a file was replaced.

Not shown: lines cut off at the end, unless the last hash (``head``) is kept elsewhere as well.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException

from mlflow_carbon.errors import StoreError
from mlflow_carbon.evidence.ledger import GENESIS, Ledger
from mlflow_carbon.evidence.sealed import Change, Seal, SealCheck
from mlflow_carbon.schema import Param
from mlflow_carbon.signing import statement
from mlflow_carbon.signing.keys import SigningKey
from mlflow_carbon.signing.trust import Trust

Files = Mapping[str, tuple[int, str]]
"""Path -> (bytes, SHA-256)."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A run as the witness saw it last; ``since`` is when it first had this record."""

    run_id: str
    name: str
    record_sha256: str
    """Of the last evidence document; empty for a run without a seal."""
    files: Files
    since: datetime


@dataclass(frozen=True, slots=True)
class Seen:
    """What a ledger says that a trusted witness signed; ``faults`` say what in it does not count."""

    runs: Mapping[str, Sighting] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    head: str = GENESIS
    """The hash up to which the witness signed."""
    by: str = ""
    at: datetime | None = None


def witness(
    client: Any, run_ids: Iterable[str], ledger: Ledger, key: SigningKey, now: datetime
) -> int:
    """Enter every run whose record or files are new or other than last seen; returns how many.

    Raises:
        StoreError: a run or its artifacts cannot be read, or the ledger is damaged.
        OutputError: the ledger cannot be written.
    """
    chain = ledger.read()
    if chain.faults:
        raise StoreError(
            f"{ledger.path}: {chain.faults[0]}. Nothing was added: keep this file as it is, find out "
            "who changed it, and begin a new one."
        )
    known = {one.run_id: one for one in _sightings((e.said, e.at) for e in chain.entries)}
    added, head = 0, chain.head
    for run_id in run_ids:
        seen = look(client, run_id, now)
        before = known.get(run_id)
        if before and (before.record_sha256, before.files) == (seen.record_sha256, seen.files):
            continue
        said = {
            "kind": "run",
            "run_id": run_id,
            "name": seen.name,
            "record_sha256": seen.record_sha256,
            "files": {path: list(told) for path, told in seen.files.items()},
        }
        head = ledger.append(said, now).sha256
        added += 1
    if added or not chain.entries:
        subjects = {ledger.path.name: head}
        envelope = statement.sign(statement.Kind.WITNESS, subjects, {"added": added}, key, now)
        ledger.append({"kind": "signed", "envelope": envelope}, now)
    return added


def read(ledger: Ledger, trust: Trust) -> Seen:
    """The runs in a ledger, as far as a trusted witness signed it.

    Raises:
        StoreError: the file cannot be read.
    """
    chain = ledger.read()
    faults = [*chain.faults]
    if faults:
        return Seen({}, tuple(faults))
    signed_to, head, by, at = 0, GENESIS, "", None
    before = GENESIS
    for place, entry in enumerate(chain.entries):
        if entry.said.get("kind") == "signed":
            said = statement.read(
                str(entry.said.get("envelope", "")), statement.Kind.WITNESS, trust
            )
            if said.fault or before not in said.subjects.values():
                fault = said.fault or "it is under another state of the ledger"
                faults.append(f"the signature in line {place + 1} does not count: {fault}")
            elif said.key is not None:
                signed_to, head, by, at = place + 1, entry.sha256, said.key.owner, said.signed_at
        before = entry.sha256
    if rest := len(chain.entries) - signed_to:
        faults.append(f"the last {rest} lines are not signed by a trusted witness")
    signed = ((entry.said, entry.at) for entry in chain.entries[:signed_to])
    return Seen({one.run_id: one for one in _sightings(signed)}, tuple(faults), head, by, at)


def _sightings(lines: Iterable[tuple[Mapping[str, Any], datetime]]) -> Iterator[Sighting]:
    """Every line about a run; one with the same record as before keeps the earlier time."""
    since: dict[tuple[str, str], datetime] = {}
    for said, at in lines:
        if said.get("kind") != "run":
            continue
        run_id, record = str(said["run_id"]), str(said["record_sha256"])
        files = {str(p): (int(size), str(sha)) for p, (size, sha) in said["files"].items()}
        first = since.setdefault((run_id, record), at)
        yield Sighting(run_id, str(said["name"]), record, files, first)


def look(client: Any, run_id: str, now: datetime) -> Sighting:
    """A run as it is now; every artifact is read.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        run = client.get_run(run_id)
        files = dict(_files(client, run_id, ""))
    except (MlflowException, OSError) as error:
        raise StoreError(f"run {run_id}: cannot be read: {error}") from error
    return Sighting(run_id, run.info.run_name or "", _record(run.data.params), files, now)


def compared(check: SealCheck, seen: Sighting, client: Any) -> SealCheck:
    """What the comparison with the seal found, and what is different from what the witness saw."""
    now = look(client, check.run_id, seen.since)
    changes = [*_file_changes(seen.files, now.files)]
    if seen.record_sha256 and seen.record_sha256 != now.record_sha256:
        changes.append(
            Change("document", "evidence", "changed", seen.record_sha256, now.record_sha256)
        )
    state = check.seal
    if any(change.kind != "added" for change in changes):
        state = Seal.ALTERED
    elif changes and state is Seal.SEALED:
        state = Seal.EXTENDED
    return replace(
        check,
        seal=state,
        changes=tuple(sorted({*check.changes, *changes})),
        witnessed_at=seen.since,
    )


def vanished(seen: Sighting) -> SealCheck:
    """The run is gone from the store, for good (``mlflow gc``)."""
    gone = Change("run", seen.run_id, "removed", f"seen on {seen.since:%Y-%m-%d}", "")
    return SealCheck(
        seen.run_id,
        seen.name,
        Seal.ALTERED,
        (gone,),
        "the run is gone from the store",
        witnessed_at=seen.since,
    )


def _file_changes(before: Files, now: Files) -> Iterator[Change]:
    for path in sorted({*before, *now}):
        if path not in now:
            yield Change("artifact", path, "removed", before[path][1], "")
        elif path not in before:
            yield Change("artifact", path, "added", "", now[path][1])
        elif before[path] != now[path]:
            yield Change("artifact", path, "changed", before[path][1], now[path][1])


def _record(params: Mapping[str, str]) -> str:
    """The digest in the last of the params that hold one."""
    found, number = "", 1
    while (name := Param.EVIDENCE_SHA256 + ("" if number == 1 else f".{number}")) in params:
        found, number = params[name], number + 1
    return found


def _files(client: Any, run_id: str, folder: str) -> Iterator[tuple[str, tuple[int, str]]]:
    for item in client.list_artifacts(run_id, folder or None):
        if item.is_dir:
            yield from _files(client, run_id, item.path)
            continue
        with tempfile.TemporaryDirectory(prefix="mlflow-carbon-") as scratch:
            file = Path(client.download_artifacts(run_id, item.path, scratch))
            with file.open("rb") as content:
                digest = hashlib.sha256()
                while block := content.read(1 << 20):
                    digest.update(block)
            yield item.path, (file.stat().st_size, digest.hexdigest())
