"""The shipped tables, read with the standard library and kept: training processes read them too."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from mlflow_carbon import resources

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the rows of a table are from, with the attribution line its license asks for."""

    source_id: str
    short: str
    title: str
    year: int
    url: str
    license: str
    attribution: str


@cache
def rows(name: str) -> tuple[Row, ...]:
    """All rows of ``data/<name>.csv``; an empty cell is ``""`` (the ISO code of Namibia is ``NA``)."""
    with (resources.carbon_data() / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


@cache
def sha256(name: str) -> str:
    """Of the file of a table, so that a record names exactly what it was computed from."""
    return hashlib.sha256((resources.carbon_data() / f"{name}.csv").read_bytes()).hexdigest()


@cache
def sources() -> Mapping[str, Source]:
    """Every source by its id."""
    return {
        row["source_id"]: Source(
            source_id=row["source_id"],
            short=row["short"],
            title=row["title"],
            year=int(row["year"]),
            url=row["url"],
            license=row["license"],
            attribution=row["attribution"],
        )
        for row in rows("sources")
    }


def names() -> Iterator[str]:
    """The names of all tables but the table of sources."""
    for path in sorted(resources.carbon_data().glob("*.csv")):
        if path.stem != "sources":
            yield path.stem
