"""Spark DataFrames: the data, not the plan that makes them.

Spark keeps no order of rows, so none counts: a table is the same however it is partitioned. Rows are hashed
where they lie; at most 65,536 hashes come to the driver, however large the table is. What Spark knows
to be over the limit is not read, and a job that takes too long is cancelled: both leave no
fingerprint but the reason.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from mlflow_carbon.datasets.canonical import named_parts, text_bytes
from mlflow_carbon.datasets.record import Fingerprint

FORM = "spark/1"
WAIT_S = 60.0
"""A plan that takes longer is somebody's whole pipeline, not a table."""

_UNKNOWN_SIZE = 2**50
"""Spark counts a table whose size it does not know as 8 EiB, and what is made of it as parts and products of
that: such a number says nothing, and only the time is bounded then."""

_JSON = {
    "timeZone": "UTC",
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
    "dateFormat": "yyyy-MM-dd",
    "ignoreNullFields": "true",
    "locale": "en-US",
}
"""Every option that changes how ``to_json`` writes a value, so that no setting of a session does."""

_GROUP_PROPERTIES = ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel")


def is_spark(data: object) -> bool:
    """Whether it is a DataFrame of Spark SQL."""
    kind = type(data)
    return kind.__module__.startswith("pyspark.sql.") and kind.__name__ == "DataFrame"


def fingerprint_spark(frame: Any, limit_bytes: int, *, wait_s: float = WAIT_S) -> Fingerprint | str:
    """Over the names and types of the columns in their order, and the rows in any; a text says why not."""
    if type(frame).__module__.startswith("pyspark.sql.connect."):
        return "over Spark Connect neither size nor time of a query can be bounded"
    if frame.isStreaming:
        return "a stream has no end to be read to"
    groups = _collected(frame, limit_bytes, wait_s)
    if isinstance(groups, str):
        return groups
    columns = [(text_bytes(f.name), text_bytes(f.dataType.simpleString())) for f in frame.schema]
    rows = sum(group["rows"] for group in groups)
    parts = [(group["part"].encode(), group["digest"].encode()) for group in groups]
    counted = (b"rows", str(rows).encode())
    return Fingerprint(
        sha256=named_parts(FORM, [counted, *columns, *sorted(parts)]),
        rows=rows,
        scope="full",
        form=FORM,
    )


def _collected(frame: Any, limit_bytes: int, wait_s: float) -> Any:
    """The rows of ``_groups``, or why there are none."""
    try:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException
    except ImportError:
        return "this version of PySpark is not read"
    late = threading.Event()
    try:
        size = int(str(frame._jdf.queryExecution().optimizedPlan().stats().sizeInBytes()))
        if limit_bytes < size < _UNKNOWN_SIZE:
            return f"Spark expects {size / 1e6:.0f} MB, which is over the limit; log its files"
        with _at_most(frame.sparkSession.sparkContext, wait_s, late):
            return _groups(frame).collect()
    except (Py4JError, PySparkException) as error:
        if late.is_set():
            return f"Spark did not read it within {wait_s:g} s"
        return f"Spark cannot read it: {type(error).__name__}: {str(error).splitlines()[0][:200]}"


def _groups(frame: Any) -> Any:
    """The rows' hashes, sorted within groups of the same first digits, and one hash for each group.

    Columns are renamed by place: names may repeat, or hold dots.
    """
    from pyspark.sql import functions as f

    placed = frame.toDF(*(f"c{place}" for place in range(len(frame.columns))))
    # A row without columns is an empty object: its number still counts.
    row = f.to_json(f.struct(*placed.columns), _JSON) if placed.columns else f.lit("{}")
    hashed = placed.select(f.sha2(row, 256).alias("hash"))
    return hashed.groupBy(f.substring("hash", 1, 4).alias("part")).agg(
        f.sha2(f.array_join(f.sort_array(f.collect_list("hash")), ""), 256).alias("digest"),
        f.count("hash").alias("rows"),
    )


@contextmanager
def _at_most(context: Any, wait_s: float, late: threading.Event) -> Iterator[None]:
    """Cancel the jobs of this thread after ``wait_s``; the user's own job group comes back afterwards."""
    group = f"mlflow-carbon-{uuid4().hex}"

    def cancel() -> None:
        late.set()
        context.cancelJobGroup(group)

    before = {name: context.getLocalProperty(name) for name in _GROUP_PROPERTIES}
    context.setJobGroup(group, "fingerprint of a dataset", interruptOnCancel=True)
    timer = threading.Timer(wait_s, cancel)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        for name, value in before.items():
            context.setLocalProperty(name, value)
