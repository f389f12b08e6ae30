"""What an operator has to do about rounds, on the first page of a project; and rounds by name."""

from __future__ import annotations

from collections.abc import Iterator

from django.urls import reverse

from annotate.models import Membership, Policy, Project, Ranking
from annotate.paging import counted
from annotate.palette import MOST, Found
from annotate.templatetags.show import duration
from annotate.views.home import Glance, Line, ToDo
from rlhf.data.selection import EVERYTHING, TRAIN, demonstrations, training_rankings
from rlhf.models.outcomes import Evaluation, RewardModel, Snapshot, TrainedPolicy
from rlhf.models.runs import Round, Run
from rlhf.registry.promotion import previous_live
from rlhf.rounds.report import report_on

SHOWN_ROUNDS = 5
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
    ranked = counted(training_rankings(project, EVERYTHING).in_split(*TRAIN))
    if ranked != "0":
        detail = (
            f"Ready to learn from: {written} demonstration{'' if written == '1' else 's'}"
            f" and {ranked} ranking{'' if ranked == '1' else 's'}."
        )
        yield ToDo("rounds_new", "Launch a round", detail)


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
    detail = report.current.reason or report.headline
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
    if found := _against_the_one_before(project, live):
        low, high = found.low, found.high
        ends = f" ({low:.0%}–{high:.0%})" if low is not None and high is not None else ""
        it = "it" if all_of_them else "the model that answers guests now"
        yield (
            f"The {found.get_judge_display()} prefers {it} to the model before in"
            f" {found.win_rate:.0%}{ends} of the answers."
        )


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


def _against_the_one_before(project: Project, live: Policy) -> Evaluation | None:
    before = previous_live(project)
    if before is None:
        return None
    met = Evaluation.objects.filter(policy__in=(live, before), opponent__in=(live, before))
    newest = met.last()
    return newest.turned_round() if newest and newest.policy_id == before.pk else newest
