"""What can go wrong, told so that the reader can act: where, what, and what to do next.

The command line turns each class into one exit code (``exit_code``); the numbers
never change meaning, see ``docs/cli.md``.
"""

from __future__ import annotations

from typing import NamedTuple


class CarbonError(Exception):
    """Base of every error this package raises on purpose; its text is fit to be shown as it is."""

    exit_code = 2


class SettingsError(CarbonError):
    """A setting has a value that cannot be used."""


class StoreError(CarbonError):
    """An MLflow store could not be reached or read, so nothing was audited."""

    exit_code = 4


class FilterError(CarbonError):
    """A filter over runs is not in MLflow's syntax."""


class NothingToAuditError(StoreError):
    """What was selected has no run that has ended."""


class OutputError(CarbonError):
    """A result could not be written: no permission, no space, not a directory."""

    exit_code = 4


class DataError(CarbonError):
    """A file given by the user (card, factor table, attestation) is malformed."""


class Location(NamedTuple):
    """A place in a text file; ``line`` and ``column`` count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        """``file:line:column``, as editors and CI systems link it."""
        return f"{self.file}:{self.line}:{self.column}"


class Problem(NamedTuple):
    """One thing wrong in a policy file, at its place."""

    at: Location
    message: str

    def __str__(self) -> str:
        """``file:line:column: message``."""
        return f"{self.at}: {self.message}"


class PolicyError(CarbonError):
    """A policy file is refused; ``problems`` holds every fault found in it, in file order."""

    def __init__(self, problems: list[Problem]) -> None:
        """Keep the problems; the text is one line for each."""
        self.problems = sorted(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))
