"""One run on several hosts: each keeps its own part in a tag of its own, and the run's figures are the sum.

No host waits for another and none is in charge: whoever ends later has seen the parts of those before it.
What a host that died had published stays in its tag; a host that never said anything is missing, and is shown so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace

from mlflow_carbon.schema import Metric, Tag
from mlflow_carbon.tracking.ranks import Place
from mlflow_carbon.tracking.record import ADDED_UP, MEASURED_SHARE, Record

EARLIER = "earlier"
"""In place of a host: what sessions on one host had recorded before."""
_KEPT = (*ADDED_UP, Metric.DURATION_S, Metric.COVERAGE, Metric.LARGEST_GAP_S)
_GRADES = (("A", 0.95), ("B", 0.8), ("C", 0.5), ("D", 0.0))


@dataclass(frozen=True, slots=True)
class Part:
    """What one host recorded of a run, over all its sessions."""

    metrics: Mapping[str, float]
    nodes: int
    """How many hosts its job had."""
    job: str = ""
    grade: str = ""
    """"" while it has no energy to tell."""
    method: str = ""
    status: str = ""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Component -> why it is not in the figures."""


def part_of(record: Record, place: Place) -> Part:
    """The part of this host."""
    return Part(
        metrics={name: record.metrics[name] for name in _KEPT if name in record.metrics},
        nodes=place.nodes,
        job=place.job,
        grade=record.tags.get(Tag.GRADE, ""),
        method=record.tags.get(Tag.METHOD, ""),
        status=record.tags[Tag.STATUS],
        reasons=json.loads(record.tags.get(Tag.NOT_MEASURED, "{}")),
    )


def parts_on(tags: Mapping[str, str]) -> dict[str, Part]:
    """The parts of all hosts on a run, by host; what cannot be read is left out."""
    found = {}
    for key, text in tags.items():
        if key.startswith(Tag.NODE_PREFIX):
            try:
                part = Part(**json.loads(text))
                metrics = {str(name): float(value) for name, value in part.metrics.items()}
                found[key[len(Tag.NODE_PREFIX) :]] = replace(
                    part, metrics=metrics, nodes=int(part.nodes)
                )
            except (AttributeError, TypeError, ValueError):  # somebody else wrote the tag
                continue
    return found


def earlier(tags: Mapping[str, str], metrics: Mapping[str, float]) -> Part | None:
    """What stands on the run from sessions before it had several hosts."""
    kept = {name: metrics[name] for name in _KEPT if name in metrics}
    if not kept or parts_on(tags):
        return None
    return Part(kept, 1, EARLIER, tags.get(Tag.GRADE, ""), tags.get(Tag.METHOD, ""), "measured")


def tag_of(name: str, part: Part) -> dict[str, str]:
    """The tag that keeps a part."""
    return {Tag.NODE_PREFIX + name: json.dumps(asdict(part), separators=(",", ":"))}


def together(record: Record, parts: Mapping[str, Part], *, step: int) -> Record:
    """The run's figures: the sum of the parts, and tags that say what is missing from it."""
    metrics: dict[str, float] = {}
    for name in ADDED_UP:
        if known := [p.metrics[name] for p in parts.values() if name in p.metrics]:
            metrics[name] = sum(known)
    gaps = [
        p.metrics[Metric.LARGEST_GAP_S] for p in parts.values() if Metric.LARGEST_GAP_S in p.metrics
    ]
    if gaps:
        metrics[Metric.LARGEST_GAP_S] = max(gaps)
    jobs = _jobs(parts.values())
    metrics[Metric.DURATION_S] = sum(max(map(_seconds, job)) for job in jobs)
    whole_s = sum(max(len(job), job[0].nodes) * max(map(_seconds, job)) for job in jobs)
    covered_s = sum(_seconds(p) * p.metrics.get(Metric.COVERAGE, 0.0) for p in parts.values())
    metrics[Metric.COVERAGE] = min(1.0, covered_s / whole_s) if whole_s else 0.0
    return Record(metrics, {**record.tags, **_tags(record, parts, jobs, metrics)}, step)


def _seconds(part: Part) -> float:
    return part.metrics.get(Metric.DURATION_S, 0.0)


def _jobs(parts: Iterable[Part]) -> list[list[Part]]:
    jobs: dict[str, list[Part]] = {}
    for part in parts:
        jobs.setdefault(part.job, []).append(part)
    return list(jobs.values())


def _tags(
    record: Record, parts: Mapping[str, Part], jobs: list[list[Part]], metrics: Mapping[str, float]
) -> dict[str, str]:
    coverage = metrics[Metric.COVERAGE]
    # What was recorded before is no host: it may be no more than the program that made the run.
    expected = sum(max(len(job), job[0].nodes) for job in jobs if job[0].job != EARLIER)
    silent = expected - sum(bool(part.grade) for host, part in parts.items() if host != EARLIER)
    told = {Tag.NODES: json.dumps({"expected": expected, "missing": silent})}
    # Always, as it takes the place of what a host wrote that ended before the others.
    told[Tag.NOT_MEASURED] = json.dumps(_reasons(parts, silent, expected), ensure_ascii=False)
    if any(part.status == "truncated" for part in parts.values()):
        told[Tag.STATUS] = "truncated"
    elif record.tags[Tag.STATUS] != "measuring" and silent < expected:
        complete = coverage >= MEASURED_SHARE and not silent
        told[Tag.STATUS] = "measured" if complete else "partial"
    if grades := [part.grade for part in parts.values() if part.grade]:
        reachable = next(grade for grade, least in _GRADES if coverage >= least)
        told[Tag.GRADE] = max([*grades, reachable])
        largest = max(parts.values(), key=lambda p: p.metrics.get(Metric.ENERGY_KWH, 0.0))
        told[Tag.METHOD] = largest.method
    return told


def _reasons(parts: Mapping[str, Part], silent: int, expected: int) -> dict[str, str]:
    found: dict[str, str] = {}
    for host, part in sorted(parts.items()):
        for component, reason in part.reasons.items():
            name = host if component == "run" else component
            if reason not in found.get(name, ""):
                found[name] = "; ".join(filter(None, (found.get(name), reason)))
    if silent:
        found["nodes"] = f"{silent} of {expected} hosts gave no figures"
    return found
