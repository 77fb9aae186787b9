"""The peer: pages of ``search_runs``, every rule put to every run and dataset of them by cel-expr-python.

    python tests/benchmarks/cel_peer.py STORE RULES.json MOST_RUNS

Prints as JSON how many runs were read and what each rule answered.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
from cel_expr_python import cel

_TAGS = {"mlflow.data.context": "context"}


def row_of(run: Any, experiment: str) -> dict[str, Any]:
    """What the rules read of a run: what is blank or no number is not there."""
    inputs = run.inputs.dataset_inputs if run.inputs else []
    datasets = []
    for one in inputs:
        about = {key: getattr(one.dataset, key) for key in ("name", "digest", "source_type", "source")}  # fmt: skip
        about.update(
            (_TAGS.get(tag.key, tag.key.removeprefix("mlflow_carbon.")), tag.value)
            for tag in one.tags
        )
        datasets.append({key: value for key, value in about.items() if value and value.strip()})
    info = run.info
    attributes: dict[str, Any] = {
        "id": info.run_id,
        "name": info.run_name,
        "status": info.status,
        "user": info.user_id,
        "experiment": experiment,
        "datasets": len(datasets),
        "dataset_contexts": sorted({one["context"] for one in datasets if "context" in one}),
        "source_commit": run.data.tags.get("mlflow.source.git.commit"),
    }
    if info.start_time is not None and info.end_time is not None:
        attributes["duration_s"] = (info.end_time - info.start_time) / 1000.0
    return {
        "metric": {key: value for key, value in run.data.metrics.items() if math.isfinite(value)},
        "param": {key: value for key, value in run.data.params.items() if value.strip()},
        "tag": {key: value for key, value in run.data.tags.items() if value.strip()},
        "run": {key: value for key, value in attributes.items() if value not in (None, "")},
        "datasets": datasets,
        "dataset": {},
    }


def subjects_of(row: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "run", row
    for one in row["datasets"]:
        yield "dataset", {**row, "dataset": one}


def truth(expression: Any, activation: Any) -> bool | None:
    """True, false, or nothing where CEL answers with an error."""
    value = expression.eval(activation)
    return bool(value.value()) if value.type() == cel.Type.BOOL else None


def state(rule: dict[str, Any], activation: Any) -> str:
    applies = truth(rule["when"], activation)
    if applies is False:
        return "not_applicable"
    holds = truth(rule["assert"], activation)
    decided = holds if applies else (True if holds else None)
    return "no_evidence" if decided is None else "pass" if decided else "fail"


def main() -> None:
    store, file, most = sys.argv[1], sys.argv[2], int(sys.argv[3])
    texts = cel.Type.Map(cel.Type.STRING, cel.Type.STRING)
    any_ = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    env = cel.NewEnv(
        variables={
            "metric": cel.Type.Map(cel.Type.STRING, cel.Type.DOUBLE),
            "param": texts,
            "tag": texts,
            "run": any_,
            "dataset": any_,
            "datasets": cel.Type.List(any_),
        }
    )
    rules = json.loads(Path(file).read_text(encoding="utf-8"))
    for rule in rules:
        rule["when"], rule["assert"] = env.compile(rule["when"]), env.compile(rule["assert"])
    by_scope = {scope: [rule for rule in rules if rule["scope"] == scope] for scope in ("run", "dataset")}  # fmt: skip
    client = mlflow.MlflowClient(store, store)
    names = {one.experiment_id: one.name for one in client.search_experiments()}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    token, read = None, 0
    while read < most:
        page = client.search_runs(list(names), max_results=1000, page_token=token)
        for run in page:
            for scope, subject in subjects_of(row_of(run, names[run.info.experiment_id])):
                activation = env.Activation(subject)
                for rule in by_scope[scope]:
                    counts[rule["id"]][state(rule, activation)] += 1
        read, token = read + len(page), page.token
        if not token:
            break
    print(json.dumps({"runs": read, "rules": counts}))


if __name__ == "__main__":
    main()
