"""Cover, one-page summary, and scope: what was asked, how, and what to keep in mind."""

from __future__ import annotations

from collections.abc import Sequence

from mlflow_carbon.audit.baseline import Past
from mlflow_carbon.evidence.model import SubjectKind
from mlflow_carbon.policy.model import Gate, Pack, Severity, State
from mlflow_carbon.report import charts
from mlflow_carbon.report.blocks import (
    Block,
    Bullets,
    Callout,
    Code,
    Column,
    Cover,
    Facts,
    Figure,
    Heading,
    Line,
    Paragraph,
    Strong,
    Table,
    Tally,
    cells,
    line,
)
from mlflow_carbon.report.context import NUMBER, UNDECIDED, Context, Group
from mlflow_carbon.report.parts.coverage import coverages, sentence
from mlflow_carbon.report.shown import brief, name, shown

TOP = 5
TREND = 4
"""Earlier audits in the drawing."""
_UNMET = (State.FAIL, *UNDECIDED)
_OF_VERSIONS = {SubjectKind.MODEL_VERSION, SubjectKind.PAIR}


def cover(c: Context) -> Cover:
    """The first page."""
    t, audit = c.t, c.audit
    chosen = audit.selection
    facts = [
        (t("cover.as_of"), line(Strong(c.moment(audit.as_of)))),
        (t("cover.store"), line(Code(name(chosen.store)))),
        (t("cover.experiments"), line(_restricted(c, chosen.experiments[:6]))),
        (t("cover.models"), line(_restricted(c, chosen.models[:6]))),
        (t("cover.period"), line(_period(c))),
        (
            t("cover.runs"),
            line(t("cover.runs_value", read=chosen.runs_read, selected=chosen.runs_selected)),
        ),
    ]
    facts += [
        (
            t("cover.policies"),
            line(f"{name(pack.id)} {pack.version}, SHA-256 ", Code(f"{pack.sha256[:16]}\u2026")),
        )
        for pack in audit.packs
    ]
    return Cover(
        kicker=t("document.kicker"),
        title=t("document.title"),
        subtitle=", ".join(map(name, chosen.experiments[:3] or chosen.models[:3]))
        or name(chosen.store),
        facts=Facts(tuple(facts)),
        notice=(
            Callout(t("cover.is_heading"), tuple(line(t(f"cover.is_{n}")) for n in (1, 2, 3))),
            Callout(
                t("cover.is_not_heading"), tuple(line(t(f"cover.is_not_{n}")) for n in (1, 2, 3))
            ),
        ),
    )


def _restricted(c: Context, names: Sequence[str]) -> str:
    """The names asked for; none given means all."""
    return ", ".join(map(name, names)) or c.t("all")


def _period(c: Context) -> str:
    chosen = c.audit.selection
    if chosen.earliest is None or chosen.latest is None:
        return c.t("unknown")
    return c.t("cover.period_value", start=c.moment(chosen.earliest), end=c.moment(chosen.latest))


def summary(c: Context) -> tuple[Block, ...]:
    """One page: the counts, the energy, the gate, and five findings in sentences."""
    t = c.t
    lead = t(
        "summary.lead",
        rules=t("summary.rules", len(c.audit.rules)),
        subjects=t("summary.subjects", sum(map(c.subjects, SubjectKind))),
        answers=t("summary.answers", c.answers),
        passed=c.audit.count(State.PASS),
        failed=c.audit.count(State.FAIL),
        undecided=c.undecided,
        waived=c.audit.count(State.WAIVED),
        not_applicable=c.audit.count(State.NOT_APPLICABLE),
    )
    tally = Tally(
        t("summary.tally"),
        tuple(
            (
                c.state(state),
                c.audit.count(state),
                c.percent(c.audit.count(state) / max(c.answers, 1)),
            )
            for state in State
        ),
    )
    return (
        Paragraph(line(lead), "lead"),
        tally,
        states_chart(c),
        Heading(line(t("summary.top_heading"))),
        _top(c),
        Heading(line(t("summary.energy_heading"))),
        Paragraph(line(_energy(c))),
        Heading(line(t("summary.coverage_heading"))),
        Bullets(tuple(line(sentence(c, found)) for found in coverages(c))),
        Heading(line(t("summary.gate_heading"))),
        *_gates(c),
        Heading(line(t("summary.change_heading"))),
        Paragraph(line(_change(c))),
        *_trend(c),
    )


def _change(c: Context) -> str:
    t, change = c.t, c.audit.change
    if change is None:
        return t("summary.change_none")
    told = t(
        "summary.change",
        earlier=c.moment(change.earlier),
        new=len(change.new),
        remaining=len(change.remaining),
        resolved=change.resolved,
    )
    if change.oldest is not None:
        days = (c.audit.as_of - change.oldest).days
        told += " " + t("summary.oldest", days, since=c.moment(change.oldest))
    return told if change.complete else f"{told} {t('summary.change_part')}"


def _trend(c: Context) -> tuple[Figure, ...]:
    """Answers by state in each audit that asked the same, this one last."""
    if not c.audit.past:
        return ()
    now = Past(c.audit.as_of, {state: c.audit.count(state) for state in State})
    rows, told = [], []
    for past in (*c.audit.past[-TREND:], now):
        segments = tuple((state.value, float(past.counts.get(state, 0))) for state in State)
        day, total = past.as_of.date().isoformat(), sum(past.counts.values())
        rows.append(charts.Bar(day, segments, c.t.number(total)))
        seen = ", ".join(f"{past.counts[s]} {c.state(s).word}" for s in State if past.counts.get(s))
        told.append(f"{day}: {seen}")
    title = c.t("summary.trend")
    legend = {
        s.value: c.state(s).word
        for s in State
        if any(b.segments[list(State).index(s)][1] for b in rows)
    }
    return (
        Figure(
            "trend", title, charts.bars(rows, legend, c.t.number), f"{title}. {'. '.join(told)}."
        ),
    )


def states_chart(c: Context) -> Figure:
    """Answers by severity, a bar for each."""
    rows, told = [], []
    for severity, counts in c.by_severity().items():
        total = sum(counts.values())
        segments = tuple((state.value, float(counts[state])) for state in State)
        word = c.severity(severity).word
        rows.append(charts.Bar(word, segments, c.t.number(total)))
        seen = ", ".join(f"{counts[s]} {c.state(s).word}" for s in State if counts[s])
        told.append(f"{word}: {seen or c.t('none')}")
    title = c.t("summary.chart")
    legend = {state.value: c.state(state).word for state in State if c.audit.count(state)}
    return Figure(
        "states", title, charts.bars(rows, legend, c.t.number), f"{title}. {'. '.join(told)}."
    )


def _top(c: Context) -> Block:
    worst = c.groups(_UNMET)[:TOP]
    if not worst:
        return Paragraph(line(c.t("summary.top_none")))
    return Bullets(tuple(_sentence(c, group) for group in worst), ordered=True)


def _sentence(c: Context, group: Group) -> Line:
    rule = group.summary.rule
    count = of_subjects(c, group)
    return line(
        c.severity(rule.severity), " ", Strong(f"{rule.title}."), " ", c.state(group.state),
        f" {count}. {shown(brief(group.findings[0].message), 220) if group.findings else ''}",
    )  # fmt: skip


def of_subjects(c: Context, group: Group) -> str:
    """``3 of 12 runs``: never a number without what it is out of."""
    all_subjects = c.among(group.summary.rule.scope, group.summary.subjects)
    return c.t("of_kind", n=group.summary.counts[group.state], all=all_subjects)


def _energy(c: Context) -> str:
    account = c.audit.energy
    if account.total_j is None:
        return c.t("summary.energy_none")
    carbon = account.emissions_g
    return c.t(
        "summary.energy",
        energy=c.energy(account.total_j.mid), low=c.energy(account.total_j.low),
        high=c.energy(account.total_j.high), measured=c.energy(account.measured_j),
        modelled=c.energy(account.modelled_j), emissions=c.emissions(carbon.mid if carbon else None),
        emissions_low=c.emissions(carbon.low if carbon else None),
        emissions_high=c.emissions(carbon.high if carbon else None),
        counted=c.t("summary.counted", account.runs_counted),
        unmeasured=c.t("summary.counted", account.runs_unmeasured),
    )  # fmt: skip


def _gates(c: Context) -> list[Block]:
    guarded = [pack for pack in c.audit.packs if pack.gate is not None]
    if not guarded:
        return [Paragraph(line(c.t("summary.gate_none")))]
    return [Paragraph(line(_gate(c, pack, pack.gate))) for pack in guarded if pack.gate]


def _gate(c: Context, pack: Pack, gate: Gate) -> str:
    parts = (
        ("summary.gate_aliases", gate.aliases),
        ("summary.gate_stages", gate.stages),
        ("summary.gate_models", gate.models),
    )
    what = c.t("summary.gate_and").join(
        c.t(key, names=", ".join(names)) for key, names in parts if names
    )
    return c.t(
        "summary.gate", pack=pack.id, what=what or c.t("none"),
        severity=c.severity(gate.blocks_at).word.lower(),
        versions=c.among(SubjectKind.MODEL_VERSION, c.subjects(SubjectKind.MODEL_VERSION)),
        blocked=len(_held_back(c, pack, gate.blocks_at)),
    )  # fmt: skip


def _held_back(c: Context, pack: Pack, blocks_at: Severity) -> set[str]:
    """Versions with an unmet rule of the pack that is severe enough, on the version or on a pair of it."""
    return {
        finding.subject.key.split("@")[0]
        for finding in c.audit.findings
        if finding.pack_id == pack.id
        and finding.state in _UNMET
        and finding.subject.kind in _OF_VERSIONS
        and finding.severity.rank <= blocks_at.rank
        and not finding.noted
    }


def scope(c: Context) -> tuple[Block, ...]:
    """What was asked, what could be read, with which versions, by which method, within which limits."""
    t, chosen = c.t, c.audit.selection
    failed = len(chosen.failed_to_read)
    facts = Facts((
        (t("scope.store"), line(Code(name(chosen.store)))),
        (t("scope.experiments"), line(_restricted(c, chosen.experiments))),
        (t("scope.filter"), line(Code(shown(chosen.filter, 300))) if chosen.filter else line(t("scope.no_filter"))),
        (t("scope.models"), line(_restricted(c, chosen.models))),
        *_asked(c),
        (t("scope.read"), line(t("scope.read_value", read=chosen.runs_read, selected=chosen.runs_selected, failed=failed))),
        (t("scope.period"), line(_period(c))),
        (t("scope.zone"), line(t("scope.zone_value"))),
        (t("scope.sampling"), line(t("scope.sampling_value"))),
        (t("scope.as_of"), line(c.moment(c.audit.as_of))),
        (t("scope.versions"), line(t("scope.versions_value", tool=c.audit.tool_version, mlflow=c.audit.mlflow_version))),
    ))  # fmt: skip
    blocks: list[Block] = [Heading(line(t("scope.selection"))), facts, _policies(c)]
    if failed:
        blocks.append(_failed(c))
    if loosened := [line(text) for pack in c.audit.packs for text in pack.loosened]:
        blocks.append(Callout(t("scope.loosened"), tuple(loosened)))
    limits = (
        line(t("scope.limits_1", integrity=NUMBER["integrity"])),
        line(t("scope.limits_2")),
        line(t("scope.limits_3", limits=NUMBER["limits"])),
    )
    return (
        *blocks,
        Callout(t("scope.limits_heading"), limits),
        Heading(line(t("scope.method_heading"))),
        Paragraph(line(f"{t('scope.method_1')} {t('scope.method_2')}")),
        _states(c),
    )


def _asked(c: Context) -> list[tuple[str, Line]]:
    """The time and the workspace asked for, where they were."""
    t, chosen = c.t, c.audit.selection
    asked = []
    if chosen.since or chosen.until:
        start, end = (c.moment(at) if at else "\u2013" for at in (chosen.since, chosen.until))
        asked.append((t("scope.asked"), line(t("scope.asked_value", start=start, end=end))))
    if chosen.workspace:
        asked.append((t("scope.workspace"), line(Code(name(chosen.workspace)))))
    return asked


def _states(c: Context) -> Table:
    t = c.t
    return Table(
        t("scope.states_caption"),
        (Column(t("scope.state"), 30), Column(t("scope.means"), 70)),
        tuple(cells(c.state(state), t(f"state_means.{state.value}")) for state in State),
    )


def _policies(c: Context) -> Table:
    t = c.t
    return Table(
        t("scope.policies_caption"),
        (
            Column(t("scope.policy"), 34), Column(t("scope.policy_version"), 10),
            Column(t("scope.policy_owner"), 22), Column(t("scope.policy_rules"), 8, number=True),
            Column(t("scope.policy_hash"), 26),
        ),
        tuple(
            cells(
                line(Strong(name(pack.id)), f" {pack.title}"), pack.version, name(pack.owner),
                t.number(len(pack.rules)), Code(pack.sha256),
            )
            for pack in c.audit.packs
        ),
    )  # fmt: skip


def _failed(c: Context) -> Table:
    failed = c.audit.selection.failed_to_read
    return Table(
        c.t("scope.failed_caption"),
        (Column(c.t("scope.failed_run"), 40), Column(c.t("scope.failed_reason"), 60)),
        tuple(
            cells(Code(name(run)), shown(reason, 300)) for run, reason in failed[: c.detail_rows]
        ),
        omitted=c.more(len(failed) - c.detail_rows, 0, "report.json"),
    )
