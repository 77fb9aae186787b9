"""Rows a model was trained on must not be among those it is tested on."""

from __future__ import annotations

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.datasets.examine import MAX_USED, Used, examine, leaks, remember
from mlflow_carbon.datasets.rows import KEPT, RowHashes, overlap, row_hashes
from mlflow_carbon.datasets.tables import MAX_CONVERTED_BYTES

LIMIT = 2**30


def hashes(data: object) -> RowHashes:
    result = row_hashes(data)
    assert isinstance(result, RowHashes), result
    return result


def people(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"age": np.arange(rows), "name": [f"n{i}" for i in range(rows)]})


def test_a_clean_split_shares_no_row() -> None:
    data = people(100)
    assert overlap(hashes(data[:80]), hashes(data[80:])).shared == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda frame: frame,
        lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
        lambda frame: frame[["age"]].to_numpy(),
    ],
    ids=["pandas", "arrow", "numpy"],
)
def test_shared_rows_are_counted_with_their_share(make) -> None:
    data = people(100)
    result = overlap(hashes(make(data[:80])), hashes(make(data[70:100])))
    assert (result.shared, result.compared) == (10, 30)
    assert result.share == pytest.approx(1 / 3)


def test_the_order_and_the_index_of_rows_do_not_matter() -> None:
    data = people(100)
    assert overlap(hashes(data), hashes(data[::-1].reset_index(drop=True))).shared == 100


def test_a_row_that_leaks_twice_counts_twice() -> None:
    data = people(10)
    twice = pd.concat([data, data[:1]])
    assert overlap(hashes(data), hashes(twice)).shared == 11


def test_the_same_cells_in_other_places_are_another_row() -> None:
    one = np.array([[1.0, 2.0]])
    assert overlap(hashes(one), hashes(one[:, ::-1])).shared == 0


def test_datasets_with_other_columns_are_not_compared() -> None:
    data = people(10)
    assert overlap(hashes(data), hashes(data[["age"]])) == "their columns differ"


def test_large_datasets_are_compared_by_the_same_sample_of_both() -> None:
    whole = np.arange(4.0 * KEPT).reshape(-1, 1)
    result = overlap(hashes(whole[: 3 * KEPT]), hashes(whole[2 * KEPT :]))
    assert result.compared < 2 * KEPT
    assert result.share == pytest.approx(0.5, abs=0.02)


def test_a_small_test_set_is_found_in_a_large_training_set() -> None:
    whole = np.arange(4.0 * KEPT).reshape(-1, 1)
    result = overlap(hashes(whole), hashes(whole[:: KEPT // 100]))
    assert result.share == 1.0
    assert result.compared > 50


def test_what_has_no_rows_is_told() -> None:
    assert "no rows" in str(row_hashes(np.array(5)))
    assert "no columns" in str(row_hashes(pd.DataFrame()))
    assert "cannot be compared" in str(row_hashes(pd.DataFrame({"a": [[1], [2]]})))


rows = st.lists(st.tuples(st.integers(-3, 3), st.sampled_from("xyz")), min_size=1, max_size=30)


@given(rows, rows)
def test_counts_are_those_of_a_plain_comparison(train: list, test: list) -> None:
    left, right = (pd.DataFrame(r, columns=["a", "b"]) for r in (train, test))
    result = overlap(hashes(left), hashes(right))
    assert result.compared == len(test)
    assert result.shared == sum(row in set(train) for row in test)
    assert hashes(left).duplicates == len(train) - len(set(train))


def used(name: str, context: str, data: object) -> Used:
    return Used(name=name, context=context, content=name, rows=row_hashes(data))


def test_leaks_are_told_for_training_against_held_out_data_only() -> None:
    data = people(100)
    before = [
        used("a", "train", data[:80]),
        used("b", "", data),
        used("c", "Test", data),
        used("d", "training", object()),
    ]
    (leak,) = leaks(used("e", "Validation", data[60:90]), before)
    assert leak.to_json() == {
        "training": "a",
        "held_out": "e",
        "shared": 20,
        "compared": 30,
        "share": 0.666667,
    }


def test_a_training_set_logged_after_the_test_set_is_compared_too() -> None:
    data = people(100)
    (leak,) = leaks(used("late", "train", data), [used("early", "eval", data[:10])])
    assert (leak.training, leak.held_out) == ("late", "early")


def test_no_leak_is_told_apart_from_nothing_to_compare() -> None:
    data = people(100)
    assert leaks(used("a", "test", data[:50]), [used("b", "train", data[50:])]) == ()
    assert leaks(used("a", "test", data), [used("b", "test", data)]) is None
    assert leaks(used("a", "test", data), [used("b", "train", data[["age"]])]) is None


def test_only_so_many_datasets_are_remembered_and_none_twice() -> None:
    kept: list[Used] = []
    for number in range(2 * MAX_USED):
        for _ in range(2):
            remember(used(f"d{number}", "eval", people(3)), kept)
    assert len(kept) == MAX_USED
    assert len({one.name for one in kept}) == MAX_USED


def test_one_look_gives_fingerprint_counts_and_rows() -> None:
    dataset = mlflow.data.from_numpy(np.zeros((4, 2)), targets=np.array([0, 0, 0, 1]))
    seen = examine(dataset, limit_bytes=LIMIT)
    assert seen.fingerprint.rows == 4
    assert seen.quality.duplicate_rows == 3
    assert seen.quality.classes == {"0": 3, "1": 1}
    assert isinstance(seen.rows, RowHashes)


def test_the_target_column_of_a_frame_gives_the_classes() -> None:
    frame = people(10).assign(label=["y"] * 9 + ["n"])
    seen = examine(mlflow.data.from_pandas(frame, targets="label"), limit_bytes=LIMIT)
    assert seen.quality.classes == {"y": 9, "n": 1}
    assert seen.quality.smallest_class_share == 0.1


def test_data_over_the_limit_is_fingerprinted_but_not_counted() -> None:
    seen = examine(np.zeros((5000, 10)), limit_bytes=4000)
    assert seen.fingerprint.scope.startswith("sampled")
    assert seen.quality is None
    assert seen.rows == "it is over the size limit"


def test_tables_of_other_libraries_are_counted_up_to_what_memory_allows() -> None:
    small = pa.table({"a": [1, 1, None]})
    assert examine(small, limit_bytes=LIMIT).quality.missing == {"a": 1}
    large = pa.table({"a": np.zeros(MAX_CONVERTED_BYTES // 8 + 1)})
    seen = examine(large, limit_bytes=LIMIT)
    assert seen.fingerprint.scope == "full"
    assert seen.quality is None
    assert "too large" in seen.rows


def test_odd_data_never_raises() -> None:
    seen = examine(object(), limit_bytes=LIMIT)
    assert isinstance(seen.fingerprint, str)
    assert isinstance(seen.rows, str)
