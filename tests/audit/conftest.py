"""The seeded stores of the evidence tests serve the audit's tests too."""

from tests.evidence.conftest import server, sqlite_copy, sqlite_store

__all__ = ["server", "sqlite_copy", "sqlite_store"]
