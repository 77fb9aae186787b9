"""Where a store is: its address made fit to print, and a bounded look whether it can be read as it is.

MLflow itself creates a missing SQLite file, creates a missing folder and migrates an old schema
when it opens a store. An audit must not change what it audits, so all three are refused here first.
"""

from __future__ import annotations

import re
import socket
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mlflow_carbon.errors import StoreError
from mlflow_carbon.redact import redacted as redacted

if TYPE_CHECKING:
    import sqlalchemy

CONNECT_TIMEOUT_S = 5.0

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_PORTS = {"http": 80, "https": 443}


def scheme_of(uri: str) -> str:
    """``postgresql`` for ``postgresql+psycopg2://...``; empty for a plain path."""
    head, found, _ = uri.partition(":")
    return head.split("+")[0].lower() if found and re.fullmatch(r"[A-Za-z][\w+.-]+", head) else ""


def probe(uri: str) -> str:
    """Check within some seconds that the store is there; the schema of a database, else the empty text.

    Raises:
        StoreError: it is not; says what to do.
    """
    scheme = scheme_of(uri)
    if scheme in _PORTS:
        _probe_server(uri, scheme)
    elif scheme == "sqlite":
        return _there(uri, _sqlite_revision(sqlite_path(uri)))
    elif scheme in DATABASES:
        return _there(uri, _database_revision(uri, scheme))
    elif scheme in ("", "file"):
        _probe_folder(uri)
    return ""


def _there(uri: str, revision: str | None) -> str:
    if revision is None:
        raise StoreError(f"{redacted(uri)}: holds no MLflow tables. Is it the right database?")
    return revision


def sqlite_path(uri: str) -> Path:
    """The file behind ``sqlite:///...``.

    Raises:
        StoreError: the address names no file.
    """
    _, found, rest = uri.partition(":///")
    # The plain form is taken apart here: SQLAlchemy takes 20 MB and half a second to load.
    database = rest.partition("?")[0] if found else _url(uri).database
    if not database or database == ":memory:":
        raise StoreError(f"{uri}: names no database file. Write sqlite:////absolute/path/mlflow.db")
    return Path(unquote(database))


def without_secrets(uri: str, text: str) -> str:
    """``text`` (a driver's message) without the password that stands in ``uri``."""
    parts = urlsplit(uri) if "://" in uri else None
    for secret in {parts.password, unquote(parts.password)} if parts and parts.password else ():
        text = text.replace(secret, "***")
    return redacted(text.replace(uri, redacted(uri)))


_ADVICE = {
    r"locked|busy": "Another program holds the database: try again when it has let go of it.",
    r"malformed|not a database|unicode|utf-?8|conver[ts]|where a number": "The database is damaged: restore it from a backup.",
    r"permission denied": "The user needs SELECT on all of MLflow's tables.",
    r"terminat|closed the connection|connection.* lost|could not receive": "The connection was lost: try again.",
    r"unable to open|disk I/O": "Check the file, its disk and its permissions.",
}
_MOST = 300
"""Characters of a driver's message: some go on with the whole query and its values."""


def in_short(uri: str, said: str) -> str:
    """What a driver said, on one line, without query and password; and what to do about it."""
    said = re.split(r" \[SQL: | \(Background on | Query was: ", " ".join(said.split()))[0]
    told = without_secrets(uri, said)[:_MOST]
    for fault, advice in _ADVICE.items():
        if re.search(fault, said, re.IGNORECASE):
            return f"{told.rstrip('. ')}. {advice}"
    return told


def _url(uri: str) -> sqlalchemy.URL:
    import sqlalchemy
    from sqlalchemy.exc import ArgumentError

    try:
        url = sqlalchemy.make_url(uri)
    except (ArgumentError, ValueError):
        url = None
    # A part of a password that is taken for the host would be printed by drivers.
    if url is None or (url.host and "@" in f"{url.host}{url.database}"):
        raise StoreError(
            f"{redacted(uri)}: is not a valid address. Write for example sqlite:////path/mlflow.db, "
            "postgresql://user@host/database or https://mlflow.example.org; special characters "
            "in a password are written as %XX."
        )
    return url


def _probe_server(uri: str, scheme: str) -> None:
    shown = redacted(uri)
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port or _PORTS[scheme]
    except ValueError as error:
        raise StoreError(f"{shown}: is not a valid address: {error}.") from None
    if not host:
        raise StoreError(f"{shown}: names no host. Write for example https://mlflow.example.org")
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise StoreError(
            f"{shown}: no MLflow server answers at {host} port {port} "
            f"({error.strerror or error}). Start it, or check the address and the network."
        ) from None


def _probe_folder(uri: str) -> None:
    folder = Path(unquote(urlsplit(uri).path) if uri.startswith("file:") else uri)
    if folder.is_file():
        raise StoreError(
            f"{uri}: is a file. For a SQLite store write sqlite:///{folder.absolute()}"
        )
    if not folder.is_dir():
        raise StoreError(f"{uri}: there is no such folder.")


def _sqlite_revision(path: Path) -> str | None:
    if not path.is_file():
        raise StoreError(f"{path}: there is no such database file; nothing was created.")
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=CONNECT_TIMEOUT_S
        )
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return None
        if "readonly" in str(error) and not path.with_name(f"{path.name}-journal").exists():
            raise StoreError(
                f"{path}: keeps a write-ahead log, for which SQLite makes files beside it even to read, and you "
                f"have no permission to do so there. Copy {path.name}* to a folder of your own and audit the copy."
            ) from None
        if "readonly" in str(error):
            raise StoreError(
                f"{path}: a program was interrupted while it wrote here, and the database has to be mended "
                f"first; an audit does not write. Open it once with write access: sqlite3 {path} .tables"
            ) from None
        raise StoreError(
            f"{path}: {error}. Check that the file may be read and that no other program holds it."
        ) from None
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path}: {error}. Restore the file from a backup.") from None
    return str(row[0]) if row else None


def _database_revision(uri: str, scheme: str) -> str | None:
    import sqlalchemy
    from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

    timeout = {"connect_timeout": int(CONNECT_TIMEOUT_S)}
    arguments = timeout if scheme in ("postgresql", "mysql") else {}
    try:
        engine = sqlalchemy.create_engine(_url(uri), connect_args=arguments)
        try:
            with engine.connect() as connection:
                if not sqlalchemy.inspect(connection).has_table("alembic_version"):
                    return None
                query = sqlalchemy.text("SELECT version_num FROM alembic_version")
                found = connection.execute(query).scalar()
                return None if found is None else str(found)
        finally:
            engine.dispose()
    except ModuleNotFoundError as error:
        raise StoreError(
            f"{redacted(uri)}: the database driver {error.name} is not installed. "
            f"Run: pip install {'psycopg2-binary' if error.name == 'psycopg2' else error.name}"
        ) from None
    except NoSuchModuleError:
        raise StoreError(f"{redacted(uri)}: there is no database driver of this name.") from None
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise StoreError(
            f"{redacted(uri)}: the database cannot be read ({without_secrets(uri, reason)}). "
            "Check address, user, password and network."
        ) from None
