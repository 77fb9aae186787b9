"""Coverage-guided fuzzing of the policy loader and the expression parser, with atheris: ``make fuzz``.

Whatever the input, a policy is read or refused with a place; anything else is a crash, and atheris
keeps the input. Two targets in turn: whole files (mutated from a shipped pack) and ``expr:`` lines.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))

with atheris.instrument_imports(include=["mlflow_carbon.policy"]):
    from mlflow_carbon.errors import PolicyError
    from mlflow_carbon.policy.load import read_pack, shipped_packs

_RULE = """\
apiVersion: mlflow-carbon/v1
kind: PolicyPack
metadata: {id: fuzz, version: 1.0.0, title: t, owner: o}
frameworks: [nist-ai-rmf@1.0]
parameters: {p: {type: number, default: 1}}
rules:
  - id: F-1
    title: t
    severity: low
    scope: pair
    baseline: champion
    rationale: r
    controls: [{ref: nist-ai-rmf/MEASURE-2.12, relation: informs}]
    finding: f
    remediation: r
    does_not_show: d
    assert: {expr: "%s"}
"""


def read(content: bytes) -> None:
    try:
        read_pack(content, "fuzz.yaml", {})
    except PolicyError as error:
        if not all(problem.at.line >= 1 and problem.at.column >= 1 for problem in error.problems):
            raise RuntimeError("a problem without a place") from error


def one(data: bytes) -> None:
    """Even first byte: a file; odd: an expression inside a sound file."""
    if not data or data[0] % 2 == 0:
        read(data[1:])
        return
    line = data[1:].decode("utf-8", "replace").replace("\\", "").replace('"', "")
    read((_RULE % line.replace("\n", " ")).encode())


def seeds(folder: Path) -> None:
    """What the mutations start from."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in shipped_packs().items():
        (folder / name).write_bytes(b"\0" + path.read_bytes()[:3_000])
    lines = (
        "metrics.x <= 5 and tags.y = 'z' or not params.b in ('1', '2')",
        "metrics.x <= 1.1 * baseline.metrics.x + $p",
        "(run.status is not null) and tags.`a b` like '%c'",
    )
    for number, line in enumerate(lines):
        (folder / f"line-{number}").write_bytes(b"\1" + line.encode())


if __name__ == "__main__":
    corpus = Path(sys.argv[1])
    seeds(corpus)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
