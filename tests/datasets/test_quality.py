"""Counts that leave the process; values that do not."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mlflow_carbon.datasets.quality import inspect, kind_of_name


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "note": ["call kim@example.org", None, "x", "y"],
            "reach": ["kim@example.org", "ada@example.com", None, "?"],
            "amount": [1.0, np.nan, 3.0, 4.0],
            "gender": ["f", "m", "f", "f"],
        }
    )


def test_missing_cells_are_counted_where_there_are_any() -> None:
    assert inspect(frame()).missing == {"note": 1, "reach": 1, "amount": 1}


def test_columns_are_recognised_by_their_names_and_by_their_values() -> None:
    found = {
        (s.column, s.kind, s.found_by, s.matched, s.scanned) for s in inspect(frame()).sensitive
    }
    assert found == {("gender", "gender", "name", None, None), ("reach", "email", "values", 2, 3)}


def test_no_value_but_a_class_leaves_the_module() -> None:
    record = json.dumps(inspect(frame(), targets="gender").to_json())
    assert "example" not in record
    assert '"classes": {"f": 3, "m": 1}' in record


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("iban", "GB82 WEST 1234 5698 7654 32", "GB82 WEST 1234 5698 7654 33"),
        ("card number", "4111 1111 1111 1111", "4111 1111 1111 1112"),
        ("ip address", "192.168.0.1", "999.168.0.1"),
        ("us social security number", "078-05-1120", "078-051-120"),
        ("phone number", "+49 30 901820", "30 901820"),
        ("email", "kim@example.org", "kim at example.org"),
    ],
)
def test_check_digits_and_ranges_are_looked_at(kind: str, good: str, bad: str) -> None:
    def kinds(text: str) -> set[str]:
        return {s.kind for s in inspect(pd.DataFrame({"x": [text] * 3})).sensitive}

    assert kind in kinds(good)
    assert kind not in kinds(bad)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Email", "contact"),
        ("customerEmail", "contact"),
        ("birth-date", "birth"),
        ("Age", "birth"),
        ("ZIP code", "address"),
        ("race", "ethnicity"),
        ("blood_pressure", "health"),
        ("page", ""),
        ("tip", ""),
        ("mean radius", ""),
        ("iris", ""),
        ("alcalinity_of_ash", ""),
        ("\u202eliame", ""),
        ("a" * 100_000, ""),
    ],
)
def test_names_are_matched_as_whole_words(name: str, kind: str) -> None:
    assert kind_of_name(name) == kind


def test_a_text_made_to_be_slow_is_not() -> None:
    hostile = ["DE00" + "A" * 400, "1 " * 400 + "x", "a@" + "b." * 300, "+1" + " " * 300] * 250
    assert inspect(pd.DataFrame({"x": hostile})).sensitive == ()


def test_a_number_to_predict_has_no_classes() -> None:
    data = pd.DataFrame({"y": np.arange(1000.0)})
    assert inspect(data, targets="y").classes == {}


def test_many_classes_are_cut_and_counted() -> None:
    quality = inspect(pd.DataFrame({"y": np.arange(1000) % 30}), targets="y")
    assert (len(quality.classes), quality.other_classes) == (20, 10)
    assert quality.smallest_class_share is None


def test_arrow_tables_and_arrays_are_counted_too() -> None:
    assert inspect(pa.table({"a": [1, None]})).missing == {"a": 1}
    assert inspect(np.array([[1.0, np.nan]])).missing == {"1": 1}
    assert inspect(np.zeros((2, 2, 2))) is None


def test_empty_frames_are_fine() -> None:
    assert inspect(pd.DataFrame()).rows == 0
    assert inspect(frame()[:0], targets="gender").classes == {}
    assert inspect(frame(), targets="no such column").classes == {}
