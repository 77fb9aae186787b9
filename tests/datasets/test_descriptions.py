"""Descriptions in other people's formats: read in bounds, mapped to one card, nothing fetched or opened."""

from __future__ import annotations

import json
import logging
import os
import socket
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import mlcroissant
import pytest
from click.testing import CliRunner
from huggingface_hub import DatasetCardData

from mlflow_carbon.cli.dataset import command
from mlflow_carbon.datasets.card import FIELDS as CARD_FIELDS
from mlflow_carbon.datasets.card import Card
from mlflow_carbon.datasets.cards import find_cards, load_card, merged
from mlflow_carbon.datasets.standard import FIELDS, entries
from mlflow_carbon.errors import DataError
from mlflow_carbon.export import croissant as export

CROISSANT: dict[str, Any] = {
    "@context": {"@vocab": "https://schema.org/", "rai": "http://mlcommons.org/croissant/RAI/"},
    "@type": "sc:Dataset",
    "name": "applicants",
    "license": "https://creativecommons.org/licenses/by/4.0/",
    "url": "https://example.org/applicants",
    "creator": [{"@type": "Organization", "name": "Example Bank"}, {"name": "Kim"}],
    "description": "Loan applicants\nof one year.",
    "datePublished": "2024-02-01",
    "distribution": [{"@type": "cr:FileObject", "encodingFormat": "text/csv"}],
    "isBasedOn": {"@id": "https://example.org/raw"},
    "rai:personalSensitiveInformation": ["age", "income"],
    "rai:dataUseCases": "Scoring",
    "rai:dataBiases": "Few applicants under 25",
    "rai:dataCollectionTimeframe": ["2023-01-01", "2023-12-31"],
}


def croissant(folder: Path, tree: object, name: str = "applicants") -> Path:
    path = folder / f"{name}.croissant.json"
    path.write_text(tree if isinstance(tree, str) else json.dumps(tree))
    return path


def hub_card(folder: Path, text: str | bytes, name: str = "applicants") -> Path:
    path = folder / f"{name}.dataset.md"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_croissant_with_rai_fields_is_read_as_a_card(tmp_path: Path) -> None:
    assert load_card(croissant(tmp_path, CROISSANT)) == Card(
        name="applicants",
        license="CC-BY-4.0",
        origin="https://example.org/applicants",
        issuer="Example Bank, Kim",
        description="Loan applicants of one year.",
        issued="2024-02-01",
        format="text/csv",
        lineage="https://example.org/raw",
        sensitive="age, income",
        intended_use="Scoring",
        biases="Few applicants under 25",
        collected="2023-01-01, 2023-12-31",
        declared_by="Example Bank, Kim (Croissant file)",
    )


def test_full_names_and_other_prefixes_mean_the_same(tmp_path: Path) -> None:
    tree = {
        "@type": "https://schema.org/Dataset",
        "https://schema.org/name": "applicants",
        "schema:license": {"@id": "https://spdx.org/licenses/MIT.html"},
        "http://mlcommons.org/croissant/RAI/dataBiases": "some",
    }
    card = load_card(croissant(tmp_path, tree))
    assert (card.name, card.license, card.biases) == ("applicants", "MIT", "some")


def test_a_graph_is_followed_once_so_that_circles_do_no_harm(tmp_path: Path) -> None:
    tree = {
        "@graph": [
            {"@id": "#d", "@type": "Dataset", "name": "x", "creator": {"@id": "#o"}},
            {"@id": "#o", "@type": "Organization", "name": {"@id": "#d"}, "url": {"@id": "#o"}},
        ]
    }
    tree["@graph"][0]["isBasedOn"] = {"@id": "#d"}
    card = load_card(croissant(tmp_path, tree))
    assert (card.issuer, card.lineage) == ("#o", "x")


def test_what_we_export_can_be_read_again_and_so_can_mlcroissants_own(
    tmp_path: Path,
) -> None:
    from mlflow_carbon.export.record import Dataset, ModelRecord

    dataset = Dataset(name="applicants", digest="1", license="MIT", sensitive="none")
    record = ModelRecord(name="m", version="1", created=None, datasets=(dataset,))
    text = export.render(record, datetime(2026, 1, 1, tzinfo=timezone.utc))
    card = load_card(croissant(tmp_path, text))
    assert (card.name, card.license, card.sensitive) == ("applicants", "MIT", "none")
    metadata = mlcroissant.Metadata(
        ctx=mlcroissant.Context(), name="theirs", license=["MIT"], url="https://example.org"
    )
    theirs = load_card(croissant(tmp_path, metadata.to_json(), "theirs"))
    assert (theirs.name, theirs.license) == ("theirs", "MIT")


def test_a_remote_context_is_never_fetched(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/context.jsonld"
        tree = CROISSANT | {"@context": address, "url": address, "license": address}
        assert load_card(croissant(tmp_path, tree)).origin == address
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_path_in_a_description_is_text_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    tree = CROISSANT | {
        "url": "../../../etc/passwd",
        "distribution": [{"contentUrl": str(tmp_path / "pipe"), "encodingFormat": "text/csv"}],
    }
    assert load_card(croissant(tmp_path, tree)).origin == "../../../etc/passwd"


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ("", "not valid JSON"),
        ("{", ":1: not valid JSON"),
        ("[" * 100_000, "nested too deeply|not valid JSON"),
        ([], "no node of @type Dataset"),
        ({"name": "x"}, "no node of @type Dataset"),
        ({"@type": "Dataset"}, "needs a name"),
        ({"@type": {"a": 1}, "name": "x"}, "no node of @type Dataset"),
        ({"@type": "Dataset", "name": "x\u202ey"}, "U\\+202E"),
        ({"@type": "Dataset", "name": "x\x00y"}, "U\\+0000"),
        ("NaN", "no node of @type Dataset"),
    ],
)
def test_a_damaged_croissant_file_is_refused(tmp_path: Path, tree: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_card(croissant(tmp_path, tree))


@pytest.mark.parametrize("value", [None, 3, True, [], {}, [[["x"]]], {"name": 3}, [None, {"x": 1}]])
def test_properties_of_odd_types_are_left_out(tmp_path: Path, value: object) -> None:
    odd = {name: value for name in CROISSANT if name not in ("@type", "name", "@context")}
    card = load_card(croissant(tmp_path, CROISSANT | odd))
    assert card.license in ("", "LicenseRef-3")
    assert card.sha256 == ""


def test_two_gigabytes_of_json_are_not_read(tmp_path: Path) -> None:
    path = croissant(tmp_path, CROISSANT)
    with path.open("r+b") as file:
        file.truncate(2**31)
    with pytest.raises(DataError, match="larger than 2 MB"):
        load_card(path)


def test_the_front_matter_of_a_hugging_face_card_is_read(tmp_path: Path) -> None:
    data = DatasetCardData(
        license="cc-by-4.0",
        pretty_name="applicants",
        source_datasets=["original", "extended|other"],
        annotations_creators=["expert-generated"],
        task_categories=["tabular-classification"],
        configs=[{"config_name": "a", "data_files": "x.csv"}],
    )
    card = load_card(hub_card(tmp_path, f"---\n{data.to_yaml()}\n---\n# Applicants\n"))
    assert card == Card(
        name="applicants",
        license="CC-BY-4.0",
        lineage="original, extended|other",
        method="annotated by expert-generated",
        intended_use="tabular-classification",
        declared_by="its Hugging Face dataset card",
    )


def test_another_license_is_named_and_an_unnamed_card_has_its_files_name(tmp_path: Path) -> None:
    text = "---\nlicense: other\nlicense_name: our-terms\n---\n"
    card = load_card(hub_card(tmp_path, text, "mine"))
    assert (card.name, card.license) == ("mine", "LicenseRef-our-terms")


def test_only_the_front_matter_counts_however_long_the_page_is(tmp_path: Path) -> None:
    path = hub_card(tmp_path, "---\nlicense: mit\n---\n" + "é" * 3_000_000)
    assert load_card(path).license == "MIT"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# no front matter", "expected `---`"),
        ("", "expected `---`"),
        ("---\nlicense: mit\n", "does not end"),
        ("---\nlicense: mit\n" + "# filler\n" * 6_000_000 + "---\n", "does not end"),
        ("---\nlicense: [\n---\n", ":2: not valid YAML"),
        ("---\n- a\n---\n", ":2: expected `field: value`"),
        ("---\npretty_name: a\u202eb\n---\n", "U\\+202E"),
        (b"---\nlicense: \xff\n---\n", "not UTF-8"),
    ],
    ids=["page", "empty", "open", "50 MB", "yaml", "list", "rtl", "latin"],
)
def test_a_damaged_hugging_face_card_is_refused(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load_card(hub_card(tmp_path, text))


def test_cards_of_every_kind_are_found_and_damaged_ones_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    croissant(tmp_path, CROISSANT)
    croissant(tmp_path, "{", "damaged")
    hub_card(tmp_path, "---\nlicense: mit\n---\n", "other")
    os.mkfifo(tmp_path / "pipe.dataset.yaml")
    with caplog.at_level(logging.WARNING):
        assert find_cards("applicants", None, [tmp_path])[0].issuer == "Example Bank, Kim"
        assert find_cards("other", None, [tmp_path])[0].license == "MIT"
    assert "damaged.croissant.json:1: not valid JSON" in caplog.text
    assert "pipe.dataset.yaml: cannot be read" in caplog.text


def test_the_standard_has_22_fields_and_a_card_can_fill_all_but_its_version() -> None:
    assert [sum(f.group == group for f in FIELDS) for group in ("source", "provenance", "use")] == [
        6,
        8,
        8,
    ]
    held = [field.card_field for field in FIELDS if field.card_field]
    assert len(set(held)) == 21
    assert set(held) <= set(CARD_FIELDS)
    whole = Card(**dict.fromkeys(CARD_FIELDS, "x"))
    assert all(entry.value for entry in entries(whole.name, merged([whole])))


def test_every_value_says_who_declared_it_and_what_nobody_said_is_empty() -> None:
    said = merged([Card(name="a", issuer="B", declared_by="kim"), Card(name="a", format="CSV")])
    found = {e.field.card_field: e for e in entries("a", said)}
    assert found["issuer"].declared_by == "kim"
    assert (found["consent"].value, found["consent"].declared_by) == ("", "")
    assert found["format"].declared_by == "nobody named"
    assert found["name"].declared_by == "the MLflow record"


def test_check_shows_what_is_said_and_what_is_not(tmp_path: Path) -> None:
    path = str(croissant(tmp_path, CROISSANT))
    text = CliRunner().invoke(command, ["check", path]).output
    assert "Where consent is kept:              (not said)" in text
    assert "11 of 22 fields" in text
    found = json.loads(CliRunner().invoke(command, ["check", path, "--json"]).output)
    assert len(found["fields"]) == 22
    assert isinstance(CliRunner().invoke(command, ["check", "gone.yaml"]).exception, DataError)
