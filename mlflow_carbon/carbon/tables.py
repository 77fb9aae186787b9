"""The shipped tables, read with the standard library: training processes read them too."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import NamedTuple

from mlflow_carbon import resources

Row = Mapping[str, str]


class Source(NamedTuple):
    """Where the rows of a table are from, with the attribution line its license asks for."""

    source_id: str
    short: str
    title: str
    year: int
    url: str
    license: str
    attribution: str


def rows(name: str) -> Iterator[Row]:
    """The rows of ``data/<name>.csv``, one after the other; an empty cell is ``""`` (the ISO code of Namibia is ``NA``).

    They are not kept: all of them take 2 MB, and one place in them is asked for once.
    """
    with (resources.carbon_data() / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        header = next(lines)
        for line in lines:
            yield dict(zip(header, line, strict=True))


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
