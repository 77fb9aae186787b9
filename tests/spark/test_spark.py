"""Fingerprints of Spark DataFrames: the data, not the plan; bounded; the same however it is partitioned."""

from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql import types as t

from mlflow_carbon.datasets.fingerprint import fingerprint
from mlflow_carbon.datasets.record import Fingerprint
from mlflow_carbon.datasets.spark import FORM, fingerprint_spark
from mlflow_carbon.schema import InputTag

LIMIT = 2**30

SCHEMA = t.StructType(
    [
        t.StructField("id", t.LongType()),
        t.StructField("score", t.DoubleType()),
        t.StructField("name", t.StringType()),
        t.StructField("open", t.BooleanType()),
        t.StructField("day", t.DateType()),
        t.StructField("at", t.TimestampType()),
        t.StructField("amount", t.DecimalType(10, 2)),
        t.StructField("raw", t.BinaryType()),
        t.StructField("tags", t.ArrayType(t.StringType())),
    ]
)
AT = datetime(2026, 11, 23, 10, 0, 0, 123456, tzinfo=timezone.utc)


def row(number: int, **changes: object) -> tuple[object, ...]:
    values: dict[str, object] = {
        "id": number,
        "score": number / 7,
        "name": f"name {number}",
        "open": number % 2 == 0,
        "day": date(2026, 1, 1 + number % 28),
        "at": AT,
        "amount": Decimal("12.34"),
        "raw": b"\x00\xff",
        "tags": ["a", "b"],
    }
    return tuple((values | changes).values())


def frame(spark: SparkSession, changes: dict[int, dict[str, object]] | None = None) -> DataFrame:
    rows = [row(number, **(changes or {}).get(number, {})) for number in range(100)]
    return spark.createDataFrame(rows, SCHEMA)


def sha256(data: object) -> str:
    found = fingerprint(data, limit_bytes=LIMIT)
    assert isinstance(found, Fingerprint), found
    return found.sha256


def test_the_whole_content_is_hashed_where_it_lies_and_the_rows_are_counted(
    spark: SparkSession,
) -> None:
    found = fingerprint(frame(spark), limit_bytes=LIMIT)
    assert isinstance(found, Fingerprint)
    assert (found.rows, found.scope, found.form) == (100, "full", FORM)


def test_it_is_the_data_not_the_plan(spark: SparkSession, tmp_path: Path) -> None:
    data = frame(spark)
    expected = sha256(data)
    assert sha256(frame(spark)) == expected
    data.write.parquet(str(tmp_path / "data"))
    assert sha256(spark.read.parquet(str(tmp_path / "data"))) == expected
    assert sha256(data.filter("id >= 0").select("*")) == expected


def test_neither_partitions_nor_the_order_of_rows_nor_the_session_matter(
    spark: SparkSession,
) -> None:
    data = frame(spark)
    expected = sha256(data)
    assert sha256(data.repartition(7)) == expected
    assert sha256(data.orderBy(f.desc("id"))) == expected
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "Asia/Kolkata")
    try:
        assert sha256(frame(spark)) == expected
    finally:
        spark.conf.set("spark.sql.session.timeZone", before)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("id", -1),
        ("score", 0.1 + 0.2),
        ("score", None),
        ("score", float("nan")),
        ("name", ""),
        ("name", None),
        ("name", "null"),
        ("open", None),
        ("day", date(2025, 12, 31)),
        ("at", AT.replace(microsecond=123457)),
        ("amount", Decimal("12.35")),
        ("raw", b"\x00\xfe"),
        ("tags", ["a,b"]),
        ("tags", ["b", "a"]),
    ],
)
def test_one_changed_value_of_any_type_changes_the_hash(
    spark: SparkSession, column: str, value: object
) -> None:
    assert sha256(frame(spark, {99: {column: value}})) != sha256(frame(spark))


def test_a_row_twice_is_another_table(spark: SparkSession) -> None:
    data = frame(spark)
    assert sha256(data.union(data.limit(1))) != sha256(data)


def test_names_types_and_order_of_columns_are_content(spark: SparkSession) -> None:
    data = frame(spark)
    others = [
        data.withColumnRenamed("id", "key"),
        data.withColumn("id", f.col("id").cast("int")),
        data.select(*reversed(data.columns)),
    ]
    assert len({sha256(one) for one in [data, *others]}) == 4


def test_strange_and_repeated_column_names_and_empty_tables_are_fine(spark: SparkSession) -> None:
    strange = spark.createDataFrame([(1, 2, 3)], ["a.b", "a.b", "x `y` \u202e"])
    assert sha256(strange) != sha256(strange.toDF("a.b", "a.b", "z"))
    none = frame(spark).limit(0)
    assert sha256(none) != sha256(none.select("id"))
    columnless = spark.range(3).select()
    assert sha256(columnless) != sha256(spark.range(4).select())


def test_what_spark_knows_to_be_over_the_limit_is_not_read(
    spark: SparkSession, tmp_path: Path
) -> None:
    frame(spark).write.parquet(str(tmp_path / "data"))
    found = fingerprint(spark.read.parquet(str(tmp_path / "data")), limit_bytes=100)
    assert "over the limit" in str(found)


def test_a_query_that_takes_too_long_is_cancelled_and_the_users_job_group_comes_back(
    spark: SparkSession,
) -> None:
    spark.sparkContext.setJobGroup("mine", "my jobs")
    slow = f.udf(lambda number: __import__("time").sleep(0.5) or number, "long")
    found = fingerprint_spark(spark.range(1000).select(slow("id")), LIMIT, wait_s=1.0)
    assert found == "Spark did not read it within 1 s"
    assert spark.sparkContext.getLocalProperty("spark.jobGroup.id") == "mine"
    assert sha256(frame(spark))


def test_a_query_that_fails_and_a_stream_are_told(spark: SparkSession) -> None:
    failing = spark.range(3).select(f.raise_error(f.lit("no such luck")))
    assert str(fingerprint(failing, limit_bytes=LIMIT)).startswith("Spark cannot read it")
    stream = spark.readStream.format("rate").load()
    assert "a stream has no end" in str(fingerprint(stream, limit_bytes=LIMIT))


def test_a_run_has_the_fingerprint_of_its_spark_dataset(
    spark: SparkSession, measuring: MlflowClient, tmp_path: Path
) -> None:
    frame(spark).write.parquet(str(tmp_path / "data"))
    data = spark.read.parquet(str(tmp_path / "data"))
    dataset = mlflow.data.from_spark(data, path=str(tmp_path / "data"), name="loans")
    with mlflow.start_run() as active:
        mlflow.log_input(dataset, context="training")
    (item,) = measuring.get_run(active.info.run_id).inputs.dataset_inputs
    tags = {tag.key: tag.value for tag in item.tags}
    assert tags[InputTag.SHA256] == sha256(data)
    assert (tags[InputTag.ROWS], tags[InputTag.HASH_SCOPE]) == ("100", "full")
