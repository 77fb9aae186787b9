"""docs/rules.md is complete and says what the rules say."""

from __future__ import annotations

from pathlib import Path

from mlflow_carbon.policy.handbook import handbook
from mlflow_carbon.policy.load import load_pack, shipped_packs

DOCUMENT = Path(__file__).parents[2] / "docs" / "rules.md"


def test_the_handbook_has_one_section_for_every_rule_and_is_up_to_date() -> None:
    packs = {name: load_pack(name) for name in shipped_packs()}
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == handbook(packs), "run: mlflow-carbon policy handbook > docs/rules.md"
    for pack in packs.values():
        for rule in pack.rules:
            assert text.count(f"\n## {rule.id}\n") == 1
