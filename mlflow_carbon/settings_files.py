"""Settings kept beside the code: ``mlflow-carbon.toml``, or a ``[tool.mlflow-carbon]`` table in pyproject.toml."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_carbon.errors import SettingsError

OWN_FILE = "mlflow-carbon.toml"
TABLE = "tool.mlflow-carbon"
SIZE_LIMIT_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """The values of one file, as they stand there; empty when there is no file."""

    path: Path | None = None
    values: Mapping[str, object] = field(default_factory=dict)

    def named(self, key: str) -> str:
        """Where a key stands, for a message: ``/project/pyproject.toml [tool.mlflow-carbon] region``."""
        table = "" if self.path is None or self.path.name == OWN_FILE else f" [{TABLE}]"
        return f"{self.path}{table} {key}"


def nearest(start: Path) -> SettingsFile:
    """The settings file of the project that ``start`` lies in: the nearest folder upwards that has one.

    The search ends at a folder with ``.git``: settings of another project never apply.

    Raises:
        SettingsError: the file is not TOML, or its table is not a table.
    """
    for folder in (start, *start.parents):
        for path in (folder / OWN_FILE, folder / "pyproject.toml"):
            values = _values(path)
            if values is not None:
                return SettingsFile(path, values)
        if (folder / ".git").exists():
            break
    return SettingsFile()


def _values(path: Path) -> Mapping[str, object] | None:
    """The table of the file; ``None`` if it has none. Parsing costs milliseconds, so only if need be."""
    try:
        if not path.is_file() or path.stat().st_size > SIZE_LIMIT_BYTES:
            return None
        data = path.read_bytes()
    except OSError:
        return None  # an unreadable file of somebody else's is no setting of ours
    own = path.name == OWN_FILE
    if not own and TABLE.encode() not in data:
        return None
    document = _parsed(path, data)
    if own:
        return document
    tool = document.get("tool")
    table = tool.get("mlflow-carbon") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise SettingsError(
            f"{path}: {TABLE} is not a table. Write [{TABLE}] on a line of its own."
        )
    return table


def _parsed(path: Path, data: bytes) -> dict[str, object]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        document: dict[str, object] = tomllib.loads(data.decode())
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError alike
        raise SettingsError(f"{path}: {error}") from None
    return document


def suggestion(word: str, known: Iterable[str]) -> str:
    """`` Did you mean 'region'?`` or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
