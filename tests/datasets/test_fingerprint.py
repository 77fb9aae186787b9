"""The same content gives the same hash, any other content another one."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal

import datasets
import mlflow
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.models.evaluation.base import EvaluationDataset
from scipy import sparse

from mlflow_carbon.datasets.fingerprint import fingerprint
from mlflow_carbon.datasets.record import Fingerprint

LIMIT = 2**30


def taken(data: object, limit: int = LIMIT) -> Fingerprint:
    result = fingerprint(data, limit_bytes=limit)
    assert isinstance(result, Fingerprint), result
    return result


def sha256(data: object) -> str:
    return taken(data).sha256


def frame(rows: int = 50) -> pd.DataFrame:
    numbers = np.arange(rows)
    return pd.DataFrame(
        {
            "number": numbers,
            "share": numbers / 7,
            "flag": numbers % 3 == 0,
            "name": [f"Zoë {i}" for i in numbers],
            "maybe": pd.Series([None if i % 5 == 0 else f"v{i}" for i in numbers], dtype=object),
            "day": pd.date_range("2024-01-01", periods=rows),
            "there": pd.date_range("2024-01-01", periods=rows, tz="Europe/Paris"),
            "took": pd.to_timedelta(numbers, unit="s"),
            "class": pd.Categorical([f"c{i % 3}" for i in numbers]),
            "mixed": pd.Series([i if i % 2 else str(i) for i in numbers], dtype=object),
            "count": pd.array([None if i % 4 == 0 else i for i in numbers], dtype="Int64"),
        }
    )


def changed(column: str, row: int, value: object) -> pd.DataFrame:
    other = frame()
    other[column] = other[column].astype(object) if column == "class" else other[column]
    other.loc[row, column] = value
    return other


def test_the_whole_content_is_hashed_and_the_rows_are_counted() -> None:
    result = taken(frame())
    assert (result.rows, result.scope, result.form) == (50, "full", "table/1")
    assert len(result.sha256) == 64


def test_a_copy_has_the_same_hash() -> None:
    assert sha256(frame()) == sha256(frame().copy(deep=True))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("number", 4711),
        ("share", 0.123),
        ("flag", True),
        ("name", "Zoe 40"),
        ("maybe", "x"),
        ("day", pd.Timestamp("1999-01-01")),
        ("there", pd.Timestamp("1999-01-01", tz="Europe/Paris")),
        ("took", timedelta(seconds=1)),
        ("class", "c0"),
        ("mixed", 40),
        ("count", 1),
    ],
)
def test_one_changed_value_of_any_type_changes_the_hash(column: str, value: object) -> None:
    assert sha256(changed(column, 40, value)) != sha256(frame())


def test_a_change_after_row_ten_thousand_is_seen_where_mlflow_sees_none() -> None:
    before, after = frame(20_000), frame(20_000)
    after.loc[15_000, "number"] = -1
    assert mlflow.data.from_pandas(before).digest == mlflow.data.from_pandas(after).digest
    assert sha256(before) != sha256(after)


def test_datetimes_booleans_and_objects_with_none_are_seen_where_mlflow_sees_none() -> None:
    for column, value in (("day", pd.Timestamp("1999-01-01")), ("flag", False), ("maybe", "other")):
        before = frame()[["number", column]]
        after = before.copy()
        after.loc[0, column] = value
        assert mlflow.data.from_pandas(before).digest == mlflow.data.from_pandas(after).digest
        assert sha256(before) != sha256(after), column


def test_an_array_change_after_ten_thousand_elements_is_seen_where_mlflow_sees_none() -> None:
    before = np.arange(1_000_000.0).reshape(100, 10_000)
    after = before.copy()
    after[50, 0] = -1
    assert mlflow.data.from_numpy(before).digest == mlflow.data.from_numpy(after).digest
    assert sha256(before) != sha256(after)


def test_the_order_of_rows_is_content() -> None:
    assert sha256(frame().iloc[::-1]) != sha256(frame())


def test_the_order_and_the_names_of_columns_are_content() -> None:
    plain = frame()
    assert sha256(plain[plain.columns[::-1]]) != sha256(plain)
    assert sha256(plain.rename(columns={"number": "nummer"})) != sha256(plain)


def test_a_row_number_is_no_content_but_a_date_or_a_named_index_is() -> None:
    numbers = frame()[["number"]]
    shuffled_numbers = numbers.set_axis(range(100, 150))
    dated = numbers.set_axis(pd.date_range("2024-01-01", periods=50))
    later = numbers.set_axis(pd.date_range("2025-01-01", periods=50))
    assert sha256(shuffled_numbers) == sha256(numbers)
    assert sha256(dated) != sha256(numbers)
    assert sha256(dated) != sha256(later)
    assert sha256(numbers.rename_axis("customer")) != sha256(numbers)


def test_missing_is_one_thing_however_it_is_written() -> None:
    variants = [
        pd.DataFrame({"a": pd.Series(["x", missing, "y"], dtype=object)})
        for missing in (None, np.nan, pd.NA)
    ]
    assert len({sha256(variant) for variant in variants}) == 1


@pytest.mark.parametrize("dtype", ["object", None, "string", "string[python]"])
def test_text_is_text_however_pandas_holds_it(dtype: str | None) -> None:
    # None: as pandas takes it, Python objects in pandas 2 and its own text type from pandas 3 on.
    texts = ["x", None, "é" * 5]
    held = pd.Series(texts, dtype=dtype)
    assert sha256(pd.DataFrame({"a": held})) == sha256(pa.table({"a": texts}))


def test_arrow_types_inside_pandas_are_the_arrow_types() -> None:
    table = pa.table({"a": [1, None], "b": [date(2024, 1, 1), None], "c": [[1], None]})
    assert sha256(table.to_pandas(types_mapper=pd.ArrowDtype)) == sha256(table)


@pytest.mark.parametrize("kind", ["datetime64", "timedelta64"])
def test_the_unit_a_moment_is_counted_in_does_not_matter(kind: str) -> None:
    counts = np.array([-1, 0, 1, 86_400_000_001, np.iinfo("i8").min])
    hashes = set()
    for unit, factor in (("us", 1), ("ns", 1000)):
        values = np.where(counts == counts.min(), counts, counts * factor).view(f"{kind}[{unit}]")
        table = pd.DataFrame({"t": values})
        assert table["t"].isna().sum() == 1
        hashes |= {sha256(table), sha256(pa.table({"t": pa.array(values)}))}
    assert len(hashes) == 1
    later = np.array([-1, 0, 1, 86_400_000_002], dtype=f"{kind}[us]")
    assert sha256(pd.DataFrame({"t": later})) not in hashes


def test_far_away_days_keep_their_hash() -> None:
    days = np.array(["0001-01-01", "9999-12-31"], dtype="datetime64[D]")
    assert sha256(days) == sha256(days.astype("datetime64[s]"))
    assert sha256(days) != sha256(days[::-1])


def test_a_moment_with_a_time_zone_is_the_moment_not_its_spelling() -> None:
    paris = pd.Series(pd.date_range("2024-01-01", periods=3, tz="Europe/Paris"))
    tokyo, naive = paris.dt.tz_convert("Asia/Tokyo"), paris.dt.tz_localize(None)
    assert sha256(pd.DataFrame({"t": paris})) == sha256(pd.DataFrame({"t": tokyo}))
    assert sha256(pd.DataFrame({"t": paris})) != sha256(pd.DataFrame({"t": naive}))


def test_missing_is_not_the_empty_text_nor_the_word() -> None:
    cells = (None, "", "None", "nan")
    hashes = {sha256(pd.DataFrame({"a": pd.Series(["x", c], dtype=object)})) for c in cells}
    assert len(hashes) == len(cells)


def test_where_one_text_ends_and_the_next_begins_matters() -> None:
    assert sha256(pd.DataFrame({"a": ["ab", "c"]})) != sha256(pd.DataFrame({"a": ["a", "bc"]}))


def test_pandas_and_arrow_agree_on_the_same_table() -> None:
    plain = frame().drop(columns=["mixed"])
    assert sha256(pa.Table.from_pandas(plain, preserve_index=False)) == sha256(plain)


def test_how_an_arrow_table_is_cut_into_chunks_does_not_matter() -> None:
    table = pa.Table.from_pandas(frame().drop(columns=["mixed"]), preserve_index=False)
    pieces = pa.concat_tables([table.slice(0, 7), table.slice(7, 20), table.slice(27)])
    assert sha256(pieces) == sha256(table)
    assert sha256(table.slice(3, 9)) == sha256(table.to_pandas().iloc[3:12])


def test_polars_agrees_with_pandas_and_arrow() -> None:
    plain = frame().drop(columns=["mixed"])
    table = pa.Table.from_pandas(plain.drop(columns="there"), preserve_index=False)
    other = polars.DataFrame(table)
    assert sha256(other) == sha256(plain.drop(columns="there"))
    assert sha256(mlflow.data.from_polars(other)) == sha256(other)
    assert sha256(other[::-1]) != sha256(other)


def test_a_hugging_face_dataset_agrees_with_its_table_also_when_shuffled() -> None:
    table = pa.table({"n": [1, 2, 3, None], "s": ["a", None, "c", "d"], "l": [[1], [], None, [2]]})
    dataset = datasets.Dataset(table)
    assert sha256(dataset) == sha256(table)
    shuffled = dataset.select([2, 0, 3, 1])
    assert sha256(shuffled) == sha256(table.take([2, 0, 3, 1]))
    assert sha256(mlflow.data.from_huggingface(dataset, path="none")) == sha256(table)


def test_a_large_hugging_face_dataset_is_sampled() -> None:
    dataset = datasets.Dataset.from_dict({"n": list(range(5000))})
    result = taken(dataset, 4000)
    assert result.scope == "sampled: 1000 of 5000 rows"
    assert result == taken(datasets.Dataset.from_dict({"n": list(range(5000))}), 4000)


def test_a_stream_is_not_read_and_says_so() -> None:
    stream = datasets.Dataset.from_dict({"n": [1]}).to_iterable_dataset()
    assert "no canonical form" in str(fingerprint(stream, limit_bytes=LIMIT))
    lazy = polars.LazyFrame({"n": [1]})
    assert "no canonical form" in str(fingerprint(lazy, limit_bytes=LIMIT))


def test_nested_arrow_values_are_hashed() -> None:
    def table(last: int) -> pa.Table:
        return pa.table({"a": [[1, 2], None, [last]], "b": [{"x": 1}, {"x": None}, None]})

    assert sha256(table(3)) == sha256(table(3))
    assert sha256(table(3)) != sha256(table(4))


def test_every_nan_is_the_same_nan() -> None:
    odd = np.array([0x7FF8000000000001], dtype="<u8").view("f8")
    assert sha256(odd) == sha256(np.array([np.nan]))


def test_the_byte_order_of_the_machine_does_not_matter() -> None:
    values = np.arange(10, dtype="<i4")
    assert sha256(values) == sha256(values.astype(">i4"))
    assert sha256(pd.DataFrame({"a": values})) == sha256(pd.DataFrame({"a": values.astype(">i4")}))


def test_memory_layout_does_not_matter_but_shape_does() -> None:
    values = np.arange(12.0).reshape(3, 4)
    assert sha256(np.asfortranarray(values)) == sha256(values)
    assert sha256(values.reshape(4, 3)) != sha256(values)


def test_large_arrays_are_read_in_pieces_with_the_same_result() -> None:
    values = np.arange(3_000_000.0).reshape(-1, 3)
    doubled = np.repeat(values, 2, axis=0)[::2]  # not contiguous
    assert sha256(doubled) == sha256(values)


@pytest.mark.parametrize(
    "array",
    [
        np.array(["a", "bb"]),
        np.array([b"a", b"bb"]),
        np.array([1, None, "x"], dtype=object),
        np.array(["2024-01-01"], dtype="M8[D]"),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.ma.masked_array([1, 2, 3], mask=[False, True, False]),
        np.array(5),
        np.zeros((0, 3)),
        np.array([1 + 2j]),
        np.array([True, False]),
        np.float16([1.5]),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_arrays_of_every_type_have_a_hash(array: np.ndarray) -> None:
    assert sha256(array) == sha256(array.copy())


def test_a_masked_value_does_not_matter_but_the_mask_does() -> None:
    one, two = (np.ma.masked_array([1, x, 3], mask=[False, True, False]) for x in (2, 9))
    assert sha256(one) == sha256(two)
    assert sha256(one) != sha256(np.ma.masked_array([1, 2, 3], mask=[False, False, False]))


def test_features_and_targets_are_both_content() -> None:
    features, targets = np.arange(6.0).reshape(3, 2), np.array([0, 1, 0])
    with_targets = sha256(mlflow.data.from_numpy(features, targets=targets))
    assert with_targets != sha256(mlflow.data.from_numpy(features))
    assert with_targets != sha256(mlflow.data.from_numpy(features, targets=1 - targets))
    assert sha256(mlflow.data.from_numpy(features)) == sha256(features)


def test_a_dictionary_of_features_is_hashed_by_name_whatever_the_order() -> None:
    one = {"a": np.arange(3), "b": np.zeros(3)}
    assert sha256(mlflow.data.from_numpy(one)) == sha256(dict(reversed(one.items())))
    assert sha256(one) != sha256({"b": one["a"], "a": one["b"]})
    targets = {"t": np.ones(3)}
    assert sha256(mlflow.data.from_numpy(one, targets=targets)) != sha256(one)


def test_the_frame_inside_an_mlflow_dataset_is_hashed() -> None:
    dataset = mlflow.data.from_pandas(frame(), name="applicants", targets="class")
    assert taken(dataset) == taken(frame())


def test_an_evaluation_dataset_is_hashed_with_its_labels() -> None:
    data = frame()[["number", "share"]].to_numpy()
    one = EvaluationDataset(data, targets=np.zeros(50))
    two = EvaluationDataset(data, targets=np.ones(50))
    assert sha256(one) != sha256(two)


def test_a_description_without_data_says_so() -> None:
    dataset = MetaDataset(CodeDatasetSource(tags={"mlflow.user": "kim"}), name="remote")
    assert "data itself was not seen" in str(fingerprint(dataset, limit_bytes=LIMIT))


def test_sparse_matrices_are_hashed_by_their_values() -> None:
    dense = np.eye(5)
    matrix = sparse.csr_matrix(dense)
    with_zero = sparse.coo_matrix((np.append(np.ones(5), 0.0), ([*range(5), 1], [*range(5), 0])))
    assert sha256(matrix) == sha256(sparse.csc_matrix(dense)) == sha256(with_zero)
    assert sha256(matrix) != sha256(2 * matrix)


def test_lists_of_anything_plain_are_hashed() -> None:
    items = [{"q": "How?", "a": ["so"], "n": None, "d": date(2024, 1, 1), "m": Decimal("1.10")}]
    assert sha256(items) == sha256([dict(reversed(items[0].items()))])
    assert sha256(items) != sha256([items[0] | {"q": "Why?"}])
    assert sha256([1, True, 1.0, "1", b"1"]) != sha256([1, 1, 1, 1, 1])


def test_types_that_look_alike_are_told_apart() -> None:
    looks = [1, True, 1.0, "1", b"1", [1], {1: 1}, {1}, None, "", [], {}, Decimal(1), complex(1)]
    assert len({sha256([value]) for value in looks}) == len(looks)


def test_what_is_larger_than_the_limit_is_sampled_and_says_so() -> None:
    result = taken(frame(20_000), limit=100_000)
    count = int(result.scope.split()[1])
    assert result.scope == f"sampled: {count} of 20000 rows"
    assert 1000 <= count < 5000
    assert result.rows == 20_000
    assert result.sha256 != sha256(frame(20_000))


@pytest.mark.parametrize(
    "make",
    [
        frame,
        lambda n: np.arange(n * 10.0).reshape(n, 10),
        lambda n: [str(i) * 20 for i in range(n)],
        lambda n: sparse.eye(n).tocsr(),
        lambda n: pa.table({"a": list(range(n)), "b": ["text"] * n}),
    ],
    ids=["frame", "array", "list", "sparse", "arrow"],
)
def test_a_sample_is_the_same_every_time_and_no_table_of_its_own(
    make: Callable[[int], object],
) -> None:
    first, second = taken(make(5000), 4000), taken(make(5000), 4000)
    assert first == second
    assert first.scope == "sampled: 1000 of 5000 rows"
    assert first.sha256 != sha256(make(1000))


def test_a_sample_names_how_many_rows_there_were() -> None:
    one, two = np.zeros((5000, 10)), np.zeros((5001, 10))
    assert taken(one, 4000).sha256 != taken(two, 4000).sha256


@pytest.mark.parametrize("empty", [pd.DataFrame(), frame(0), frame().iloc[:, :0], pa.table({}), []])
def test_empty_and_columnless_tables_have_a_hash(empty: object) -> None:
    assert taken(empty).scope == "full"


def test_columns_of_the_same_name_are_hashed_by_place() -> None:
    twice = pd.DataFrame([[1, 2]], columns=["a", "a"])
    assert sha256(twice) != sha256(pd.DataFrame([[2, 1]], columns=["a", "a"]))


def test_strange_column_names_are_fine() -> None:
    names = ["<b>x</b>", "\u202egnp", "a\x00b", "", None, 3, ("a", 1)]
    odd = pd.DataFrame([range(len(names))])
    odd.columns = pd.Index(names, dtype=object, tupleize_cols=False)
    assert sha256(odd) == sha256(odd.copy())


def test_a_value_without_canonical_form_is_told_by_its_type() -> None:
    odd = pd.DataFrame({"a": pd.Series([object(), 1], dtype=object)})
    assert "builtins.object" in str(fingerprint(odd, limit_bytes=LIMIT))
    assert "no canonical form" in str(fingerprint(iter([1]), limit_bytes=LIMIT))


def test_a_list_that_contains_itself_is_told() -> None:
    loop: list[object] = []
    loop.append(loop)
    assert "contains itself" in str(fingerprint([loop], limit_bytes=LIMIT))


def test_a_frame_changed_while_it_is_hashed_is_told() -> None:
    data = pd.DataFrame(np.zeros((400_000, 12)))
    started, stop = threading.Event(), threading.Event()

    def change() -> None:
        values, turn = data.to_numpy(), 0
        values.flags.writeable = True
        while not stop.is_set():
            turn += 1
            values[:] = turn
            started.set()

    writer = threading.Thread(target=change)
    writer.start()
    try:
        started.wait()
        result = fingerprint(data, limit_bytes=LIMIT)
    finally:
        stop.set()
        writer.join()
    assert result == "the data was changed while it was read"


class Broken(mlflow.data.dataset.Dataset):
    """A dataset whose data cannot be read."""

    def __init__(self) -> None:
        self._name, self._digest = "broken", "0"

    @property
    def df(self) -> object:
        raise OSError("disk gone")

    def _compute_digest(self) -> str:
        return "0"


def test_a_dataset_that_fails_when_read_is_told_and_never_raises() -> None:
    assert "disk gone" in str(fingerprint(Broken(), limit_bytes=LIMIT))


def test_the_hash_is_the_same_in_another_process() -> None:
    code = (
        "import numpy as np, pandas as pd; from mlflow_carbon.datasets.fingerprint import fingerprint;"
        "d = pd.DataFrame({'n': np.arange(9), 's': list('abcdefghi'), 'o': [{'b': 1, 'a': {2, 3}}] * 9});"
        "print(fingerprint(d, limit_bytes=10**9).sha256)"
    )
    here = pd.DataFrame(
        {"n": np.arange(9), "s": list("abcdefghi"), "o": [{"a": {3, 2}, "b": 1}] * 9}
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert done.stdout.strip() == sha256(here)


def test_the_form_is_pinned_so_that_old_records_stay_comparable() -> None:
    table = pd.DataFrame({"n": np.array([1, 2, 3]), "s": ["x", "é", ""], "f": [0.5, np.nan, -1.0]})
    assert sha256(table) == PINNED_TABLE
    assert sha256(np.arange(4.0).reshape(2, 2)) == PINNED_ARRAY
    assert sha256(frame()) == PINNED_FRAME  # of pandas 1.5, 2.3 and 3.1


def test_importing_the_module_loads_only_the_standard_library() -> None:
    code = (
        "import sys, mlflow_carbon.datasets.fingerprint, mlflow_carbon.datasets.card,"
        "mlflow_carbon.datasets.license;"
        "print(sorted({'pandas', 'numpy', 'pyarrow', 'yaml', 'license_expression', 'mlflow'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


cells = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary()
)


@given(st.lists(cells), st.lists(cells))
def test_two_columns_have_one_hash_exactly_when_they_are_equal(a: list, b: list) -> None:
    def marked(cell: object) -> object:
        return type(cell).__name__, repr(cell)

    equal = [marked(cell) for cell in a] == [marked(cell) for cell in b]
    assert (sha256(a) == sha256(b)) is equal
    left, right = (pd.DataFrame({"a": pd.Series(cells, dtype=object)}) for cells in (a, b))
    assert (sha256(left) == sha256(right)) is equal


PINNED_TABLE = "087762336939a76f8281efeb1f28159f1a5aff83cc25667e939d6eb60f8a791e"
PINNED_ARRAY = "33f09f84989ed1a0afbd3b500cd76f878867696c878486fc5da7e898393d6b7b"
PINNED_FRAME = "378d97978476326ad705ecbfb02734f60e917ba307d86f62c1cfcccd1798fd1a"
