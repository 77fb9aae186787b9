"""Files and folders as data sets."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from mlflow_carbon.datasets.fingerprint import fingerprint
from mlflow_carbon.datasets.record import Fingerprint

LIMIT = 2**30


def taken(path: Path, limit: int = LIMIT) -> Fingerprint:
    result = fingerprint(path, limit_bytes=limit)
    assert isinstance(result, Fingerprint), result
    return result


def folder(path: Path) -> Path:
    (path / "sub").mkdir(parents=True)
    (path / "a.csv").write_text("x\n1\n")
    (path / "sub" / "b.csv").write_text("x\n2\n")
    return path


def test_the_hash_of_a_file_is_the_one_sha256sum_prints(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(os.urandom(3_000_000))
    result = taken(path)
    assert result.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (result.scope, result.form, result.rows) == ("full", "file/1", None)


def test_a_file_over_the_limit_is_sampled_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(bytes(5_000_000))
    result = taken(path, 1_000_000)
    assert result.scope == "sampled: 1000000 of 5000000 bytes"
    assert result == taken(path, 1_000_000)


def test_the_same_folder_elsewhere_has_the_same_hash(tmp_path: Path) -> None:
    one, two = folder(tmp_path / "one"), folder(tmp_path / "two")
    assert taken(one) == taken(two)
    assert taken(one).form == "folder/1"


@pytest.mark.parametrize("change", ["content", "name", "place", "more"])
def test_every_change_in_a_folder_is_seen(tmp_path: Path, change: str) -> None:
    path = folder(tmp_path / "data")
    before = taken(path)
    file = path / "a.csv"
    if change == "content":
        file.write_text("x\n3\n")
    elif change == "name":
        file.rename(path / "c.csv")
    elif change == "place":
        file.rename(path / "sub" / "a.csv")
    else:
        (path / "more.csv").write_text("")
    assert taken(path).sha256 != before.sha256


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("one")
    path = folder(tmp_path / "data")
    (path / "link").symlink_to(secret)
    (path / "loop").symlink_to(path)
    before = taken(path)
    secret.write_text("two")
    assert taken(path) == before


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    assert "No such file" in str(fingerprint(tmp_path / "gone", limit_bytes=LIMIT))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "neither a file nor a folder" in str(fingerprint(tmp_path / "pipe", limit_bytes=LIMIT))
    os.mkfifo(folder(tmp_path / "data") / "pipe")
    assert taken(tmp_path / "data").scope == "full"


def test_an_empty_folder_has_a_hash(tmp_path: Path) -> None:
    assert taken(tmp_path).scope == "full"


def test_names_that_are_no_text_are_fine(tmp_path: Path) -> None:
    Path(tmp_path, os.fsdecode(b"\xff.csv")).write_text("x")
    assert taken(tmp_path).scope == "full"
