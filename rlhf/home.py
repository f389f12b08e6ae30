"""What an operator has to do about rounds, on the first page of a project; and rounds by name."""

from __future__ import annotations

from collections.abc import Iterator

from django.template.defaultfilters import pluralize
from django.urls import reverse

from annotate.models import Membership, Policy, Project, Ranking
from annotate.paging import counted
from annotate.palette import MOST, Found
from annotate.templatetags.show import duration, interval
from annotate.views.home import Glance, Line, ToDo
from rlhf.data.counts import count_rankings
from rlhf.data.selection import EVERYTHING, TRAIN, demonstrations, training_rankings
from rlhf.evaluation.matches import matches_of
from rlhf.models.outcomes import RewardModel, Snapshot, TrainedPolicy
from rlhf.models.runs import Round, Run
from rlhf.registry.promotion import previous_live
from rlhf.registry.verdict import Verdicts
from rlhf.rounds.report import report_on

SHOWN_ROUNDS = 5
COUNTED_EXACTLY = 2000  # rankings
LONGEST_DETAIL = 160


def rounds_in_trouble(project: Project) -> Iterator[ToDo]:
    """Those that wait for somebody to say how they go on."""
    for round in Round.objects.of_project(project).in_trouble().with_runs():
        report = report_on(round)
        said = [report.current.get_kind_display(), report.current.reason]
        yield ToDo("rounds", f"{round} {report.label.lower()}", ": ".join(filter(None, said)))


def next_round(project: Project) -> Iterator[ToDo]:
    """With the labels that a new round would learn from, as its own page counts them."""
    written = counted(demonstrations(project, EVERYTHING).in_split(*TRAIN))
    if written == "0":
        return
    ranked = _ranked(project)
    if ranked != "0":
        detail = (
            f"Ready to learn from: {written} demonstration{'' if written == '1' else 's'}"
            f" and {ranked} ranking{'' if ranked == '1' else 's'}."
        )
        yield ToDo("rounds_new", "Launch a round", detail)


def _ranked(project: Project) -> str:
    """As New round counts them, unless these are so many that it would take its time."""
    some = training_rankings(project, EVERYTHING).in_split(*TRAIN).order_by()[: COUNTED_EXACTLY + 1]
    if some.count() > COUNTED_EXACTLY:
        return counted(training_rankings(project, EVERYTHING).in_split(*TRAIN))
    return f"{count_rankings(project, EVERYTHING).counts['rankings']:,}"


def at_a_glance(project: Project) -> Iterator[Glance]:
    """The newest rounds, and what answers guests."""
    rounds = Round.objects.of_project(project).with_runs()[:SHOWN_ROUNDS]
    yield Glance(
        "Rounds", "rounds", [_round_line(project, each) for each in rounds if each.runs.all()]
    )
    serving = [*project.policies.live(), *project.policies.challenger()]
    lines = [
        Line(
            policy.name,
            reverse("policies_lineage", args=[project.slug, policy.pk]),
            policy.get_state_display(),
            "ok" if policy.state == Policy.State.LIVE else "",
            policy.description,
        )
        for policy in serving
    ]
    for name, title in (("policies_production", "Production"), ("policies_costs", "Costs")):
        lines.append(Line(title, reverse(name, args=[project.slug])))
    yield Glance("Policies", "policies", lines)


def _round_line(project: Project, round: Round) -> Line:
    report = report_on(round)
    address = reverse("rounds_show", args=[project.slug, round.number])
    name = f"{round}: {round.name}" if round.name else str(round)
    # No rate of a reward model stands alone: the page of the round has the whole verdict.
    detail = report.current.reason or (f"{round.base} → {report.output}" if report.output else "")
    if report.seconds_left is not None:
        stage = report.current.get_kind_display()
        detail = f"{stage}: {duration(report.seconds_left)} left"
    return Line(name, address, report.label, report.chip, detail[:LONGEST_DETAIL])


def find_rounds(project: Project, words: str) -> Iterator[Found]:
    """Finds rounds for the command palette, the newest first."""
    for round in Round.objects.of_project(project).matching(words)[:MOST]:
        address = reverse("rounds_show", args=[project.slug, round.number])
        yield Found(str(round), address, round.name or round.note)


def effect_of_work(membership: Membership) -> Iterator[str]:
    """What somebody's rankings, and everybody's, have made of the model that answers guests now."""
    project = membership.project
    live = project.policies.live().first()
    taught = list(_snapshots_of(live)) if live else []
    if live is None or not taught:
        return
    learnt = Ranking.objects.filter(snapshots__in=taught).in_split(*TRAIN).distinct()
    mine, all_of_them = learnt.by(membership.user).count(), learnt.count()
    if mine:
        are = f"{mine:,} of your rankings are" if mine > 1 else "One of your rankings is"
        in_all = f", of {all_of_them:,} in all" if all_of_them > mine else ""
        yield f"{are} in the model that answers guests now{in_all}."
    elif all_of_them:
        are = f"{all_of_them:,} rankings are" if all_of_them > 1 else "One ranking is"
        yield f"{are} in the model that answers guests now."
    before = previous_live(project)
    if before is not None:
        it = "it" if all_of_them else "the model that answers guests now"
        yield from _preferred(Verdicts(project, matches_of(project, [live, before])), it, before)


def _snapshots_of(policy: Policy) -> Iterator[Snapshot]:
    """What a policy and those it was made from learnt of, and what their reward models did."""
    ancestor: Policy | None = policy
    while ancestor:
        if training := TrainedPolicy.objects.of(ancestor):
            run = training.checkpoint.run
            runs = [run]
            if run.round and run.kind in Run.BY_REWARD_MODEL:
                teacher = RewardModel.objects.teacher_of(run.round)
                runs += [teacher.checkpoint.run] if teacher else []
            yield from Snapshot.objects.filter(run__in=runs)
        ancestor = ancestor.parent


def _preferred(verdicts: Verdicts, it: str, before: Policy) -> Iterator[str]:
    """What people say of the two, or else a reward model by its name."""
    live = before.project.policies.live().get()
    verdict = verdicts.between(live, before)
    if verdict.people:
        rate, prompts = verdict.people.overall, verdict.people.prompts
        yield (
            f"People prefer {it} to the model before in {rate.win_rate:.0%}"
            f" {interval(rate.low, rate.high)} of blind comparisons, on {prompts}"
            f" prompt{pluralize(prompts)}."
        )
    elif found := verdict.reward_model:
        judge = f"reward model {verdict.judge.name}" if verdict.judge else "reward model"
        yield (
            f"The {judge} prefers {it} to the model before in {found.win_rate:.0%}"
            f" {interval(found.low, found.high)} of the answers. People have not compared them."
        )
