"""Hugging Face model cards, read back by its own library."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from mlflow_carbon.export.huggingface import render
from mlflow_carbon.export.record import ModelRecord


def test_emissions_are_in_grams(record: ModelRecord, made_at: datetime) -> None:
    data = ModelCard(render(record, made_at)).data.to_dict()
    assert data["co2_eq_emissions"] == {
        "emissions": 1200.0,
        "source": "mlflow-carbon 0.1.0, counter",
        "geographical_location": "FR",
        "hardware_used": "1 x NVIDIA H200",
    }


def test_the_front_matter_has_the_hubs_names(record: ModelRecord, made_at: datetime) -> None:
    data = ModelCard(render(record, made_at)).data.to_dict()
    assert data["license"] == "apache-2.0"
    assert data["datasets"] == ["example/applicants"]
    assert data["metrics"] == ["accuracy", "training_flop"]


def test_a_license_the_hub_does_not_list_is_other_with_its_name(
    record: ModelRecord, made_at: datetime
) -> None:
    data = ModelCard(render(replace(record, license="our terms"), made_at)).data.to_dict()
    assert (data["license"], data["license_name"]) == ("other", "our terms")


def test_unknown_emissions_are_left_out_and_explained(
    record: ModelRecord, made_at: datetime
) -> None:
    phase = replace(record.phases["training"], emissions_g=None, no_emissions="mixed bases")
    card = ModelCard(render(replace(record, phases={"training": phase}), made_at))
    assert "co2_eq_emissions" not in card.data.to_dict()
    assert "mixed bases" in card.text
    assert "| not known |" in card.text


def test_the_page_shows_ranges_method_and_failed_runs(
    record: ModelRecord, made_at: datetime
) -> None:
    text = ModelCard(render(record, made_at)).text
    assert "5 (1 failed)" in text
    assert "3 kWh (2.5 kWh to 3.5 kWh)" in text
    assert "1.2 kg CO2e (900 g CO2e to 1.6 kg CO2e)" in text
    assert "- Method: counter" in text


def test_a_bare_version_says_that_nothing_is_on_record(
    bare: ModelRecord, made_at: datetime
) -> None:
    card = ModelCard(render(bare, made_at))
    assert card.data.to_dict() == {"model_name": "m"}
    assert "Nothing is on record" in card.text


def test_texts_from_the_store_stay_text(hostile: ModelRecord, made_at: datetime) -> None:
    content = render(hostile, made_at)
    front = yaml.safe_load(content.split("---\n")[1])
    assert "evil" not in front
    assert content.count("\n---\n") == 1
    page = (
        MarkdownIt("commonmark", {"html": True})
        .enable("table")
        .render(content.split("---\n", 2)[2])
    )
    assert not re.search(r"<(script|a|code|b|img|hr)\b", page)
    assert "\u202e" not in content
    assert "\x00" not in content


@pytest.mark.parametrize(
    "text", ["458.29 g", "7", "1. first", "2) second", "3.", "# no heading", "- no list", "+ nor"]
)
def test_texts_that_begin_like_a_list_or_a_heading_are_read_as_they_were_written(
    record: ModelRecord, made_at: datetime, text: str
) -> None:
    page = render(replace(record, description=text), made_at).split("---\n", 2)[2]
    assert f"<p>{text}</p>" in MarkdownIt("commonmark").render(page)
