"""Buckets as tasks of Spark: each executor audits its buckets by the same code as an audit without Spark.

The session is that of ``spark-submit`` or of Spark's own configuration; without either, this machine's processors.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlflow_carbon
from mlflow_carbon.audit.place import Place
from mlflow_carbon.audit.spread import Run
from mlflow_carbon.errors import CarbonError, StoreError
from mlflow_carbon.policy.compile import NotInColumnsError


@dataclass(frozen=True, slots=True)
class _Refused:
    """What went wrong in a task, to be told as it is: Spark would try again and then wrap it."""

    error: CarbonError | NotInColumnsError


@contextmanager
def on_spark() -> Iterator[Run]:
    """Tasks go to Spark. A session that was not there before ends with this.

    Raises:
        StoreError: there is no Spark here, or it does not start.
    """
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError:
        raise StoreError(
            "--engine spark needs PySpark: pip install 'mlflow-carbon[spark]'. It needs Java 17 or 21 too. "
            "Nothing was audited."
        ) from None
    found = SparkSession.getActiveSession()
    try:
        session = found or SparkSession.builder.appName("mlflow-carbon audit").getOrCreate()
        context = session.sparkContext
    except PySparkException as error:
        raise StoreError(
            f"Spark did not start ({str(error).splitlines()[0]}). It needs Java 17 or 21, on the PATH or named by "
            "JAVA_HOME, with all its modules (`java --list-modules` names jdk.incubator.vector), and no Spark "
            "Connect. Nothing was audited."
        ) from None
    if context.master.startswith("local"):
        context.pythonExec = sys.executable  # by default whatever python3 is first on the PATH
    try:
        yield partial(_run, context)
    finally:
        if found is None:
            session.stop()


def _run(context: Any, task: Callable[..., Any], given: Sequence[tuple[Place, Any]]) -> list[Any]:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    if not given:
        return []
    checked = partial(_told, mlflow_carbon.__version__, task)
    try:
        results: list[Any] = context.parallelize(given, len(given)).map(checked).collect()
    except (Py4JError, PySparkException) as error:
        raise StoreError(f"Spark gave up: {_reason(error)}. Nothing was audited.") from None
    for one in results:
        if isinstance(one, _Refused):
            raise one.error
    return results


def _told(version: str, task: Callable[..., Any], one: tuple[Place, Any]) -> Any:
    """Do the task where the executor is."""
    if mlflow_carbon.__version__ != version:
        return _Refused(
            StoreError(
                f"mlflow-carbon is {mlflow_carbon.__version__} on an executor of Spark and {version} where the audit "
                "was asked for: answers could differ. Install the same version everywhere."
            )
        )
    try:
        return task(*one)
    except (CarbonError, NotInColumnsError) as error:
        return _Refused(error)


def _reason(error: Exception) -> str:
    """The last line of what Python said on the executor, else the first of what Spark says."""
    cause = getattr(error, "java_exception", None)
    text = str(cause.getMessage() if cause is not None else error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith("at ")]
    ends = ("Driver stacktrace", "JVM stacktrace")
    before = next((n for n, line in enumerate(said) if line.startswith(ends)), None)
    return (said[:before][-1] if "Traceback (" in text else said[0])[:300].rstrip(".")
