"""Every word of a report that is not data, read from one file per language.

A translation is a copy of ``templates/report/texts/en.yaml`` with other values.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from string import Template
from typing import Any

import yaml

from mlflow_carbon import resources
from mlflow_carbon.errors import SettingsError

_Entry = str | Mapping[str, str]


class Texts:
    """The texts of one language.

    ``$name`` stands for a value. An entry with ``one`` and ``other`` is chosen by ``n``.
    """

    def __init__(self, language: str, entries: Mapping[str, _Entry]) -> None:
        """Keep flat entries, ``part.key`` to text."""
        self.language = language
        self.entries = entries

    def __call__(self, key: str, n: int | None = None, **values: object) -> str:
        """The text for ``key``; a key or a value that is missing is a defect and raises KeyError."""
        entry = self.entries[key]
        if not isinstance(entry, str):
            entry = entry["one" if n == 1 else "other"]
        shown = {
            name: self.number(v) if isinstance(v, int) else str(v) for name, v in values.items()
        }
        if n is not None:
            shown["n"] = self.number(n)
        return Template(entry).substitute(shown)

    def number(self, value: int) -> str:
        """An integer with the language's thousands separator."""
        return f"{value:,}".replace(",", str(self.entries["number.thousands"]))


def languages() -> tuple[str, ...]:
    """The languages a report can be written in."""
    return tuple(
        sorted(path.stem for path in (resources.templates() / "report" / "texts").glob("*.yaml"))
    )


@cache
def load(language: str = "en") -> Texts:
    """The texts of a language.

    Raises:
        SettingsError: there is no such translation; names those there are.
    """
    if language not in languages():
        raise SettingsError(
            f"no report language is called {language!r}. There are: {', '.join(languages())}."
        )
    path = resources.templates() / "report" / "texts" / f"{language}.yaml"
    return Texts(language, dict(_flat("", yaml.safe_load(path.read_text(encoding="utf-8")))))


def _flat(prefix: str, tree: Mapping[str, Any]) -> list[tuple[str, _Entry]]:
    found: list[tuple[str, _Entry]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping) and set(value) != {"one", "other"}:
            found += _flat(f"{prefix}{key}.", value)
        else:
            found.append((f"{prefix}{key}", value))
    return found
