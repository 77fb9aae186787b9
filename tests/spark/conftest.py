"""One real Spark for all tests, and the same real stores as the recording tests."""

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from tests.tracking.conftest import empty_store as empty_store
from tests.tracking.conftest import measuring as measuring
from tests.tracking.conftest import store_uri as store_uri


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "4")
        .getOrCreate()
    )
    yield session
    session.stop()
