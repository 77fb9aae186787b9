"""The files of a model version, as they were when somebody approved it, and as they are now.

MLflow lets anybody who may write a run's artifacts replace them, also after a promotion.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import rfc8785
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

from mlflow_carbon.evidence.model import Evidence, Fact
from mlflow_carbon.schema import RegistryTag

TAG = RegistryTag.MANIFEST
"""Version tag that holds the manifest of the last approval."""
_LISTED_CHARS = 50_000
"""MySQL holds 65,535 bytes in a tag. A longer list is kept as its hash alone."""

_NO_MANIFEST = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
    rfc8785.CanonicalizationError,
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """Path -> (bytes, SHA-256) of every file; ``None`` where only the hash over all is known."""

    files: Mapping[str, tuple[int, str]] | None
    root: str
    """SHA-256 over the list in canonical form."""

    @property
    def reference(self) -> str:
        """How an approval names the files it is about."""
        return f"files sha256:{self.root}"

    def to_text(self) -> str:
        """The tag's value."""
        whole = json.dumps({"root": self.root, "files": self.files}, sort_keys=True)
        return whole if len(whole) <= _LISTED_CHARS else json.dumps({"root": self.root})

    def changes_since(self, then: Manifest) -> tuple[str, ...]:
        """What is different now, one file each; nothing: not a byte is."""
        if self.root == then.root:
            return ()
        if self.files is None or then.files is None:
            return ("files were changed, added or removed",)
        before, now = then.files, self.files
        return tuple(
            [
                f"{path} was changed"
                for path in sorted(before)
                if path in now and before[path] != now[path]
            ]
            + [f"{path} was removed" for path in sorted(before) if path not in now]
            + [f"{path} was added" for path in sorted(now) if path not in before]
        )


@dataclass(frozen=True, slots=True)
class Check:
    """A version's files now against those approved."""

    state: str
    """``unchanged``, ``changed``, ``not recorded`` or ``not readable``."""
    changes: tuple[str, ...] = ()
    """What is different, one file each; or why the files could not be read."""


def of(files: Mapping[str, tuple[int, str]]) -> Manifest:
    """The manifest of files."""
    listed: dict[str, Any] = {path: list(files[path]) for path in sorted(files)}
    return Manifest(dict(files), hashlib.sha256(rfc8785.dumps(listed)).hexdigest())


def from_text(text: str) -> Manifest | None:
    """The manifest in a tag; ``None`` when it is none, or its list is not the one its hash is of."""
    try:
        record = json.loads(text)
        root, listed = record["root"], record.get("files")
        if listed is None:
            return Manifest(None, str(root))
        read = of({str(path): (int(size), str(sha256)) for path, (size, sha256) in listed.items()})
    except _NO_MANIFEST:
        return None
    return read if read.root == root else None


def take(client: Any, name: str, version: str) -> Manifest:
    """Read every file of a version, one at a time.

    Raises:
        MlflowException: the artifact store does not answer.
        OSError: no room for the largest file.
    """
    home = _home(client, name, version)
    files: dict[str, tuple[int, str]] = {}
    for path in _paths(home, "", client.tracking_uri):
        with tempfile.TemporaryDirectory(prefix="mlflow-carbon-") as folder:
            uri = f"{home.rstrip('/')}/{path}"
            fetched = download_artifacts(
                artifact_uri=uri, dst_path=folder, tracking_uri=client.tracking_uri
            )
            files[path] = _measured(Path(fetched))
    return of(files)


def _home(client: Any, name: str, version: str) -> str:
    """Where the version's files lie. MLflow 2 forgets the tracking URI on the way, so it is put in here."""
    home = str(client.get_model_version_download_uri(name, version))
    if "tracking_uri" in inspect.signature(get_artifact_repository).parameters:
        return home
    if home.startswith("runs:/"):
        run_id, _, path = home.removeprefix("runs:/").partition("/")
        home = f"{client.get_run(run_id).info.artifact_uri}/{path}"
    if home.startswith("mlflow-artifacts:"):
        return str(MlflowArtifactsRepository.resolve_uri(home, client.tracking_uri))
    return home


def check(client: Any, name: str, version: str, recorded: str | None) -> Check:
    """Read the version's files and compare them with the manifest in its tag (``None``: it has none)."""
    if recorded is None:
        return Check("not recorded")
    then = from_text(recorded)
    if then is None:
        return Check("changed", ("the approved manifest itself was changed",))
    try:
        changes = take(client, name, version).changes_since(then)
    except (MlflowException, OSError) as error:
        return Check("not readable", (f"The files could not be read: {error}",))
    return Check("changed", changes) if changes else Check("unchanged")


def with_files(store: str, version: Evidence) -> Evidence:
    """The evidence of a model version with ``version.files``; without it where nothing was approved or read."""
    client = MlflowClient(store, store)
    tag = version.facts.get(f"version_tag.{TAG}")
    name, _, number = version.subject.key.rpartition("/")
    found = check(client, name, number, None if tag is None else str(tag.value))
    if found.state in ("not recorded", "not readable"):
        return version
    where = f"files of model {name} version {number} against its tag {TAG}"
    facts = {
        "version.files": Fact(found.state, where),
        "version.files_changed": Fact(found.changes, where),
    }
    return replace(version, facts={**version.facts, **facts})


def _paths(home: str, below: str, tracking_uri: str) -> Iterator[str]:
    """Paths relative to ``home``. What a listing names is relative to the store, so only the last step is taken."""
    uri = f"{home.rstrip('/')}/{below}".rstrip("/")
    for item in list_artifacts(artifact_uri=uri, tracking_uri=tracking_uri):
        path = f"{below}/{item.path.rstrip('/').rpartition('/')[2]}".lstrip("/")
        if item.is_dir:
            yield from _paths(home, path, tracking_uri)
        else:
            yield path


def _measured(file: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()
