"""Dataset cards: what they say, whom they belong to, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mlflow_carbon.datasets.card import MAX_BYTES, Card
from mlflow_carbon.datasets.cards import find_cards, load_card, merged
from mlflow_carbon.errors import DataError

WHOLE = """\
name: applicants
license: CC BY 4.0
origin: https://example.org/applicants
collected: 2023-01-01
sensitive: [health, age]
issuer: Example Bank
description: |
  Loan applicants
  of one year.
declared_by: kim@example.org
"""


def write(folder: Path, text: str | bytes, name: str = "applicants") -> Path:
    path = folder / f"{name}.dataset.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_card_is_read_as_text_and_its_license_as_spdx(tmp_path: Path) -> None:
    card = load_card(write(tmp_path, WHOLE))
    assert card == Card(
        name="applicants",
        license="CC-BY-4.0",
        origin="https://example.org/applicants",
        collected="2023-01-01",
        sensitive="health, age",
        issuer="Example Bank",
        description="Loan applicants of one year.",
        declared_by="kim@example.org",
    )


def test_what_is_not_said_is_not_declared(tmp_path: Path) -> None:
    card = load_card(write(tmp_path, "name: applicants\nlicense: unknown\norigin:\nsensitive: ~\n"))
    assert card.declared() == {}


def test_no_and_none_stay_the_words_they_are(tmp_path: Path) -> None:
    assert load_card(write(tmp_path, "name: a\nsensitive: no\n")).sensitive == "no"
    assert load_card(write(tmp_path, "name: a\nsensitive: none\n")).sensitive == "none"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("license: MIT\n", "needs a name"),
        ("name: a\nlicence: MIT\n", ":2: a dataset card has no field 'licence'"),
        ("name: a\nname: b\n", ":2: name is given twice"),
        ("name: a\norigin: {x: y}\n", ":2: origin must be text"),
        ("name: a\norigin: [!ours b]\n", ":2: origin must be text"),
        ("name: a\nsensitive: [[a]]\n", ":2: sensitive must be text"),
        ("name: a\nsha256: abc\n", ":2: sha256 must be 64"),
        ("name: 'a\n", "not valid YAML"),
        ("- a\n", "expected `field: value` lines"),
        ("", "expected `field: value` lines"),
        ("name: !!python/object/apply:os.system [echo]\n", ":1: name must be text"),
        ("name: a\x00b\n", "not valid YAML"),
        (b"name: \xff\xfe\n", "not UTF-8"),
        ("name: a\norigin: safe\u202egpj.exe\n", "U\\+202E"),
        ("name: a\norigin: zero\u200bwidth\n", "U\\+200B"),
        ("a: " + "[" * 20_000, "nested too deeply|not valid YAML"),
        ("name: a\n---\nname: b\n", "not valid YAML"),
    ],
)
def test_a_damaged_card_is_refused_with_its_line(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DataError, match=message):
        load_card(path)


def test_fifty_megabytes_are_no_card_and_are_not_read(tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\n")
    with path.open("r+b") as file:
        file.truncate(50 * 2**20)
    with pytest.raises(DataError, match=f"larger than {MAX_BYTES // 1024} KiB"):
        load_card(path)


def test_a_thousandfold_alias_is_not_expanded(tmp_path: Path) -> None:
    names = ("origin", "issuer", "method", "format", "consent", "privacy", "biases")
    bomb = "name: &v0 [x, x]\n" + "".join(
        f"{name}: &v{n} [*v{n - 1}, *v{n - 1}]\n" for n, name in enumerate(names, 1)
    )
    with pytest.raises(DataError, match="text or a list of texts"):
        load_card(write(tmp_path, bomb))


def test_html_in_a_card_stays_text(tmp_path: Path) -> None:
    card = load_card(write(tmp_path, "name: <img src=x onerror=alert(1)>\n"))
    assert card.name == "<img src=x onerror=alert(1)>"


def test_a_card_is_found_by_the_name_of_the_data_set(tmp_path: Path) -> None:
    write(tmp_path, WHOLE, "any-file-name")
    (found,) = find_cards("applicants", None, [tmp_path / "nowhere", tmp_path])
    assert found.issuer == "Example Bank"
    assert find_cards("others", None, [tmp_path]) == ()


def test_a_card_tied_to_content_describes_only_that_content(tmp_path: Path) -> None:
    write(tmp_path, f"name: applicants\norigin: tied\nsha256: {'A' * 64}\n", "tied")
    write(tmp_path, "name: applicants\norigin: by name\n", "loose")
    assert [c.origin for c in find_cards("other name", "a" * 64, [tmp_path])] == ["tied"]
    assert [c.origin for c in find_cards("applicants", "b" * 64, [tmp_path])] == ["by name"]
    both = find_cards("applicants", "a" * 64, [tmp_path])
    assert merged(both)["origin"].value == "tied"
    (tmp_path / "loose.dataset.yaml").unlink()
    assert find_cards("applicants", "b" * 64, [tmp_path]) == ()


def test_the_first_folder_wins(tmp_path: Path) -> None:
    for name in ("near", "far"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, f"name: a\norigin: {name}\n")
    found = merged(find_cards("a", None, [tmp_path / "near", tmp_path / "far"]))
    assert found["origin"].value == "near"


def test_cards_complete_one_another_and_each_value_keeps_the_name_of_who_declared_it(
    tmp_path: Path,
) -> None:
    write(tmp_path, "name: a\nlicense: MIT\ndeclared_by: Kim\n", "one")
    write(tmp_path, "name: a\nlicense: Apache-2.0\norigin: the lab\n", "two")
    found = merged(find_cards("a", None, [tmp_path]))
    assert {key: (said.value, said.by) for key, said in found.items()} == {
        "license": ("MIT", "Kim"),
        "origin": ("the lab", "nobody named"),
    }


def test_a_damaged_card_is_told_and_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "name: [\n", "a-damaged")
    (tmp_path / "b.dataset.yaml").mkdir()
    write(tmp_path, "name: good\n", "c-good")
    with caplog.at_level(logging.WARNING):
        assert find_cards("good", None, [tmp_path])
    assert "a-damaged.dataset.yaml:" in caplog.text
    assert "b.dataset.yaml: cannot be read" in caplog.text


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", "a/b", "*", "\x00", "?[!"])
def test_the_name_of_a_data_set_never_becomes_a_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "cards").mkdir()
    write(tmp_path, "name: secret\n", "secret")
    assert find_cards(name, None, [tmp_path / "cards"]) == ()


def test_an_unreadable_card_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, WHOLE)
    path.unlink()
    path.symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match="cannot be read"):
        load_card(path)
