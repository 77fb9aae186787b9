"""What docs/gate.md shows is run, not believed."""

from __future__ import annotations

import re
from pathlib import Path

from mlflow_carbon.policy.load import load_pack
from tests.gate import policy_files

PAGE = (Path(__file__).parents[2] / "docs" / "gate.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_gate_section_shown_is_a_sound_one(tmp_path: Path) -> None:
    (shown,) = (block for block in blocks("yaml") if block.startswith("gate:\n  aliases"))
    head, rest = policy_files.REVIEWED.split("gate:", 1)
    text = head + shown + "rules:" + rest.split("rules:", 1)[1]
    pack = load_pack(str(policy_files.write(tmp_path, text)))
    assert pack.gate is not None
    assert pack.gate.approvers == ("bob", "zoe")
