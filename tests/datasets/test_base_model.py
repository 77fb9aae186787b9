"""The base model of a training: pinned to a revision or a digest, or seen not to be."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from mlflow_carbon.datasets.base_model import BaseModel, base_model
from mlflow_carbon.errors import DataError

COMMIT = "6cdc0aad91f5ae2e6712e91bc7b65d1cf5c05411"


def folder(tmp_path: Path, weights: bytes = b"weights") -> Path:
    path = tmp_path / "distilled"
    path.mkdir(exist_ok=True)
    (path / "model.safetensors").write_bytes(weights)
    (path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    return path


def test_a_name_on_a_hub_is_pinned_by_its_commit_and_nothing_else_is_made_up() -> None:
    assert base_model("org/name", revision=COMMIT, license="mit") == BaseModel(
        "org/name", COMMIT, "MIT"
    )
    assert base_model("org/name") == BaseModel("org/name", "", "")


@pytest.mark.parametrize("as_text", [True, False])
def test_a_folder_is_pinned_by_its_digest_and_its_card_tells_the_license(
    tmp_path: Path, as_text: bool
) -> None:
    path = folder(tmp_path)
    found = base_model(str(path) if as_text else path)
    assert (found.name, found.license, len(found.revision)) == ("distilled", "Apache-2.0", 64)
    assert base_model(folder(tmp_path, b"other")).revision != found.revision
    assert base_model(path, license="MIT").license == "MIT"


def test_a_loaded_model_tells_where_it_is_from(tmp_path: Path) -> None:
    config = SimpleNamespace(_name_or_path="org/name", _commit_hash=COMMIT)
    assert base_model(SimpleNamespace(config=config)) == BaseModel("org/name", COMMIT, "")
    local = SimpleNamespace(_name_or_path=str(folder(tmp_path)), _commit_hash=None)
    assert len(base_model(SimpleNamespace(config=local)).revision) == 64


@pytest.mark.parametrize("model", ["", " ", object(), None])
def test_what_names_no_model_is_refused(model: object) -> None:
    with pytest.raises(DataError, match="give its name"):
        base_model(model)


def test_a_folder_that_is_not_there_and_invisible_characters_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        base_model(tmp_path / "gone")
    with pytest.raises(DataError, match="U\\+202E"):
        base_model("org/\u202ename")
