"""What the pages say about rounds and policies, put together from their rows."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, partial
from typing import Any

from django.conf import settings
from django.core.paginator import Page, Paginator

from annotate.models import Policy, Project
from annotate.prompts.models import content_hash
from annotate.templatetags.show import interval
from annotate.text.diff import changes
from rlhf.data.staleness import stale_in
from rlhf.models.metrics import Metric, Sample
from rlhf.models.outcomes import snapshot_of
from rlhf.models.runs import Round, Run
from rlhf.registry.health import Accuracy, accuracies_of
from rlhf.registry.verdict import Verdict, Verdicts
from rlhf.runs.alarms import Alarm, advice_on, alarms_of, limit_of, meets_its_guard_again
from rlhf.runs.trainer_process import last_lines
from rlhf.stages import TRAININGS

State = Run.State
CHIPS: dict[str, str] = {
    State.RUNNING: "accent",
    State.SUCCEEDED: "ok",
    State.FAILED: "bad",
    State.PAUSED: "warn",
    State.CANCELLED: "warn",
}
STEPS_SHOWN = 4
POLICIES_SHOWN = 20  # on a page


@dataclass(frozen=True)
class RoundReport:
    round: Round
    runs: list[Run]
    place: int | None = None  # of the current stage in the queue of workers
    is_stale: bool = False  # made of data that was withdrawn since
    seconds_left: float | None = None  # of the current stage, while it works
    verdict: Verdict | None = None  # on the newest policy that came out of it

    @property
    def current(self) -> Run:
        """Picks the stage that works, waits or stopped; the last one when all is done."""
        return _current(self.runs)

    @property
    def evaluation(self) -> Run | None:
        """Picks the evaluation; None: the round makes no policy."""
        return next((run for run in self.runs if run.kind == Run.Kind.EVALUATE), None)

    @property
    def state(self) -> str:
        """Sums up its runs: a round that has begun is running even while its next stage waits for a
        worker."""
        state = self.current.state
        has_begun = self.runs[0].state == State.SUCCEEDED
        return State.RUNNING if state == State.QUEUED and has_begun else state

    @property
    def label(self) -> str:
        name = State(self.state).label
        return f"{name} {self.share_done:.0%}" if self.state == State.RUNNING else name

    @property
    def chip(self) -> str:
        return CHIPS.get(self.state, "")

    @property
    def share_done(self) -> float:
        return sum(run.share_done for run in self.runs) / len(self.runs)

    @property
    def is_over(self) -> bool:
        return self.current.stands_still

    @property
    def may_cancel(self) -> bool:
        return self.state not in Run.ENDED

    @property
    def is_cancelling(self) -> bool:
        """Tells whether it was asked to end and has not yet: a guard may have paused the stage
        before it heard that."""
        return self.current.cancel_requested and not self.is_over

    @property
    def may_resume(self) -> bool:
        return self.state in Run.RESUMABLE

    @property
    def seconds(self) -> float | None:
        worked = [run.seconds for run in self.runs if run.seconds is not None]
        return sum(worked) if worked else None

    @property
    def started_at(self) -> datetime | None:
        return self.runs[0].started_at

    @property
    def output(self) -> str:
        """Names the newest policy that came out of it."""
        made = [run.summary["policy"] for run in self.runs if "policy" in run.summary]
        return made[-1] if made else ""

    @property
    def snapshot_hash(self) -> str:
        hashes = [snapshot.sha256 for run in self.runs if (snapshot := snapshot_of(run))]
        return content_hash(hashes)[:8] if hashes else ""

    @property
    def counts(self) -> str:
        parts = [
            TRAININGS[run.kind].learns_from(snapshot.counts.get("train", 0))
            for run in self.runs
            if (snapshot := snapshot_of(run))
        ]
        return " · ".join(parts)

    @property
    def alarms(self) -> list[Alarm]:
        return [alarm for run in self.runs for alarm in alarms_of(run)]

    @property
    def advice(self) -> str:
        return advice_on(self.current)

    @property
    def limit(self) -> str:
        """Names the setting whose limit has paused it."""
        return limit_of(self.current)

    @property
    def is_to_be_cloned(self) -> bool:
        """Tells whether to clone it rather than resume it."""
        return meets_its_guard_again(self.current)

    @cached_property
    def accuracies(self) -> dict[int, Accuracy]:
        """Maps its runs to what they get right of held-out comparisons."""
        return accuracies_of(self.runs)

    @property
    def headline(self) -> str:
        return next((text for run in reversed(self.runs) if (text := headline_of(run))), "")

    @property
    def digest(self) -> str:
        """Changes when there is something new to show."""
        rows = [[r.state, r.step, r.reason, r.cancel_requested] for r in self.runs]
        return content_hash([self.place, self.is_stale, *rows])


def headline_of(run: Run) -> str:
    """Gives the one figure of a run that matters most."""
    summary = run.summary
    if run.win_rates:
        name, (rate, low, high) = run.win_rates[0]
        judge = summary.get("judge") or "the reward model"
        return f"{name}: {rate:.0%} {interval(low, high)}, says {judge}"
    if accuracy := accuracies_of([run]).get(run.pk):
        return f"accuracy {accuracy}"
    if "probes" in summary:
        return f"{summary['passed']} of {summary['probes']} checks of the behaviour suites passed."
    if "rank_tasks" in summary:
        return f"{summary['completions']} completions, {summary['rank_tasks']} to rank."
    return str(summary.get("note", ""))


def report_on(
    round: Round, stale: Container[int] = (), verdicts: Verdicts | None = None
) -> RoundReport:
    """Reports on a round. `stale`: ids of runs made of data that was withdrawn since; `verdicts`:
    asked for one on its newest policy, once the round is over."""
    runs = list(round.runs.all())
    current = _current(runs)
    place = current.place_in_queue() if current.state == State.QUEUED else None
    is_stale = any(run.pk in stale for run in runs)
    report = RoundReport(round, runs, place, is_stale, _seconds_left(current))
    if verdicts is None or not report.is_over or not report.output:
        return report
    verdict = verdicts.named(report.output)
    return replace(report, verdict=verdict if verdict and verdict.is_known else None)


def _seconds_left(run: Run) -> float | None:
    if run.state != State.RUNNING or run.taken_at is None:
        return None
    pace = Metric.objects.seconds_a_step(run)
    return None if pace is None else pace * max(run.total_steps - run.step, 0)


def _current(runs: list[Run]) -> Run:
    return next((run for run in runs if run.state != State.SUCCEEDED), runs[-1])


def reports_of(project: Project, verdicts: Verdicts | None = None) -> list[RoundReport]:
    stale, verdicts = stale_in(project).runs, verdicts or Verdicts(project)
    rounds = Round.objects.of_project(project).with_runs()
    verdicts.foresee(verdicts.policies.values())
    return [report_on(round, stale, verdicts) for round in rounds]


@dataclass(frozen=True)
class Change:
    """An answer in pieces, as `annotate.text.diff` cuts it beside the answer before it."""

    sample: Sample
    pieces: list[tuple[str, str]]


def beside_the_last(answers: Iterable[Sample | None]) -> Iterator[Change | None]:
    """What each answer changed of the one before it."""
    before: Sample | None = None
    for sample in answers:
        yield _change(before, sample) if sample else None
        before = sample or before


def beside_the_first(answers: Iterable[Sample | None]) -> Iterator[Change | None]:
    """How each answer differs from the first there is."""
    first: Sample | None = None
    for sample in answers:
        yield _change(first, sample) if sample else None
        first = first or sample


def _change(before: Sample | None, sample: Sample) -> Change:
    pieces = [("same", sample.text)] if before is None else changes(before.text, sample.text)
    return Change(sample, pieces)


@dataclass(frozen=True)
class SampleTable:
    """What the fixed prompts were answered, at a few steps from the first to the last."""

    run: Run
    steps: list[int]
    rows: list[tuple[str, list[Sample | None]]]

    @property
    def changes(self) -> list[tuple[str, list[Change | None]]]:
        """The same with what each answer changed of the one before it."""
        return [(prompt, list(beside_the_last(answers))) for prompt, answers in self.rows]


SORTS_OF_SAMPLES = ("score", "-score", "kl", "-kl")


def samples_of(runs: list[Run], *, sort: str = "", newest: bool = False) -> SampleTable | None:
    """Tabulates the samples of the latest run that has any; `newest`: those of its last step alone.
    `sort`: one of SORTS_OF_SAMPLES, by the newest answer to each prompt; else as the prompts
    come."""
    for run in reversed(runs):
        steps = list(run.samples.order_by("step").values_list("step", flat=True).distinct())
        if steps:
            return _sample_table(run, steps[-1:] if newest else _spread(steps, STEPS_SHOWN), sort)
    return None


def _sample_table(run: Run, steps: list[int], sort: str) -> SampleTable:
    texts: dict[str, dict[int, Sample]] = {}
    for sample in run.samples.filter(step__in=steps).select_related("prompt"):
        texts.setdefault(sample.prompt.text, {})[sample.step] = sample
    found = list(texts.items())
    if sort in SORTS_OF_SAMPLES:
        found.sort(key=partial(_figure, sort.removeprefix("-")), reverse=sort.startswith("-"))
    rows = [(prompt, [answers.get(step) for step in steps]) for prompt, answers in found]
    return SampleTable(run, steps, rows)


def _figure(name: str, row: tuple[str, dict[int, Sample]]) -> float:
    """Of the newest answer; 0 where it has none."""
    answers = row[1]
    return getattr(answers[max(answers)], name) or 0.0


def _spread(steps: list[int], count: int) -> list[int]:
    if len(steps) <= count:
        return steps
    return [steps[round(i * (len(steps) - 1) / (count - 1))] for i in range(count)]


def log_of(run: Run) -> str:
    """Reads the end of what the trainer said in its latest attempt."""
    if run.log_tail or not run.lease_token:
        return run.log_tail
    return last_lines(settings.DATA_DIR / run.folder / f"t{run.lease_token}")


def policies_of(
    project: Project, page: str | None = None, *, holding: int | None = None
) -> Page[tuple[Policy, Verdict | None]]:
    """A page of the project's policies with all there is to say of each, the live one first; or the
    page that holds the policy of this id."""
    order = [Policy.State.LIVE, Policy.State.CHALLENGER, Policy.State.CANDIDATE]
    ranks: dict[str, int] = {state: rank for rank, state in enumerate(order)}
    listed = sorted(
        project.policies.values_list("pk", "state"),
        key=lambda each: (ranks.get(each[1], len(order)), -each[0]),
    )
    ids = [pk for pk, _ in listed]
    number = ids.index(holding) // POLICIES_SHOWN + 1 if holding in ids else page
    found: Page[Any] = Paginator(ids, POLICIES_SHOWN).get_page(number)
    policies = (
        project.policies.select_related("parent", "connection", "training__checkpoint__run__round")
        .with_thumbs()
        .in_bulk(list(found.object_list))
    )
    shown = [policies[pk] for pk in found.object_list]
    verdicts = Verdicts(project)
    verdicts.foresee(shown)
    return Page([(policy, verdicts.on(policy)) for policy in shown], found.number, found.paginator)
