"""The same task at every place of an audit: at the only one, bucket by bucket, or on Spark."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import duckdb

from mlflow_carbon.audit.place import Bucket, Everything, Place
from mlflow_carbon.audit.select import AuditRequest, Progress
from mlflow_carbon.errors import OutputError
from mlflow_carbon.evidence.snapshot import Snapshot
from mlflow_carbon.evidence.sql import Source

Run = Callable[[Callable[..., Any], Sequence[tuple[Place, Any]]], list[Any]]
"""Does a task for each pair of a place and what is given for it, and keeps their order."""

_Given = TypeVar("_Given")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Spread:
    """The places of an audit, and how a task is done for some of them."""

    places: Sequence[Place]
    run: Run

    def each(
        self, task: Callable[[Place, _Given], _Result], given: Mapping[int, _Given]
    ) -> dict[int, _Result]:
        """The task done at each place named by its index, with what is given for it."""
        results = self.run(task, [(self.places[index], one) for index, one in given.items()])
        return dict(zip(given, results, strict=True))


def in_buckets(source: Source) -> TypeGuard[Snapshot]:
    """Whether it is a snapshot that was divided."""
    return isinstance(source, Snapshot) and source.buckets > 1


@contextmanager
def spread(request: AuditRequest, source: Source, progress: Progress) -> Iterator[Spread]:
    """Where this store is audited, and by whom."""
    if not in_buckets(source):
        everything = Everything(source, progress)
        yield Spread([everything], lambda task, given: [task(*one) for one in given])
        return
    folder = Path(request.store).resolve()
    places = [Bucket(folder, source.sealed, number) for number in range(source.buckets)]
    if request.engine == "spark":
        from mlflow_carbon.audit.spark import on_spark

        with on_spark() as run:
            yield Spread(places, run)
        return
    yield Spread(places, partial(_one_by_one, progress))


def _one_by_one(
    progress: Progress, task: Callable[..., Any], given: Sequence[tuple[Place, Any]]
) -> list[Any]:
    results = []
    for done, one in enumerate(given):
        progress("Going through buckets", done, len(given))
        results.append(task(*one))
    progress("Going through buckets", len(given), len(given))
    return results


@contextmanager
def outputs(request: AuditRequest, source: Source) -> Iterator[AuditRequest]:
    """The request as the places get it. Buckets write into folders, which last only when all are done.

    The findings stay such a folder; digests become one file.

    Raises:
        OutputError: it is there already, or cannot be written.
    """
    if not in_buckets(source):
        yield request
        return
    if request.findings_file and request.findings_file.exists():
        raise OutputError(
            f"{request.findings_file}: is there already. The findings of an audit in buckets are a new folder."
        )
    findings, digests = _beside(request.findings_file), _beside(request.digests_file)
    try:
        jobs = request.jobs or (1 if request.engine == "spark" else 0)  # Spark fills the processors
        yield replace(request, findings_file=findings, digests_file=digests, jobs=jobs)
        if request.digests_file and digests:
            _one_file(digests, request.digests_file)
        if request.findings_file and findings:
            _keep(findings, request.findings_file)
    finally:
        for folder in filter(None, (findings, digests)):
            shutil.rmtree(folder, ignore_errors=True)


def _beside(path: Path | None) -> Path | None:
    """A folder that will become the path, or a file there."""
    if path is None:
        return None
    try:
        return Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent)).resolve()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}).") from None


def _keep(folder: Path, path: Path) -> None:
    try:
        folder.chmod(0o755)
        folder.rename(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}).") from None


def _one_file(parts: Path, file: Path) -> None:
    with duckdb.connect() as con:
        con.from_parquet(str(parts / "*.parquet")).write_parquet(str(file))
