"""Launching: a round is a few rows in state `queued`, and a ring once they are committed."""

from __future__ import annotations

from dataclasses import replace

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from annotate.models import Policy, Project, Prompt, User
from feedback_site.bell import enqueue_on_commit
from rlhf.data.checks import Finding, NotReady, check_speaker
from rlhf.data.selection import held_out_prompts
from rlhf.data.staleness import stale_in
from rlhf.evaluation.matches import between, matches_of
from rlhf.learning.contract.config import recipe as recipe_of
from rlhf.models.runs import Round, Run, lock_project
from rlhf.rounds.preflight import check_rendered, preflight
from rlhf.rounds.settings import Launch
from rlhf.runs.alarms import with_limit

MOST_COMPLETIONS = 100_000


class LaunchedMeanwhile(Exception):
    """Somebody has launched `round` since the page was shown from which this launch was sent."""

    def __init__(self, round: Round) -> None:
        super().__init__(
            f"{round} was launched in the meantime by {round.launched_by.display_name}."
        )
        self.round = round


def launch_round(
    project: Project, launch: Launch, *, by: User, follows: int | None = None
) -> Round:
    """Queues the round's trainings, each of which starts from what the one before it made, and the
    evaluation that follows them. Every stage learns from the labels of one moment:
    `launch.filters.until`, or else now.

    `follows`: the number of the newest round the launcher has seen, 0 if there was none. Raises
    NotReady, ConfigError, and LaunchedMeanwhile if there is a newer round than that."""
    # One moment for every stage: what the operator saw counted is what trains, hours later too.
    # The price: what a reviewer excludes after the launch is still learnt from in this round.
    filters = replace(launch.filters, until=launch.filters.until or timezone.now())
    _check_follows(project, follows)
    checks = preflight(
        project,
        launch.base,
        filters,
        stages=launch.stages,
        configs=launch.configs(),
        reward_model=launch.reward_model,
    )
    errors = checks.errors or [each for each in check_rendered(launch, filters) if each.is_error]
    if errors:
        raise NotReady(errors)
    return _queue_round(project, replace(launch, filters=filters), by=by, follows=follows)


def _check_follows(project: Project, follows: int | None) -> None:
    newest = project.rounds.first()
    if follows is not None and newest and newest.number != follows:
        raise LaunchedMeanwhile(newest)


@transaction.atomic
def _queue_round(project: Project, launch: Launch, *, by: User, follows: int | None) -> Round:
    configs = launch.configs()
    lock_project(project)  # rounds are numbered one at a time
    _check_follows(project, follows)
    round = Round.objects.create(
        project=project,
        number=Round.next_number(project),
        recipe=launch.recipe,
        base=launch.base,
        reward_model=launch.reward_model,
        note=launch.note,
        filters=launch.filters.as_dict(),
        launched_by=by,
    )
    runs = [
        Run.objects.create(
            project=project,
            round=round,
            kind=kind,
            position=position,
            config=config,
            seed=launch.seed,
            priority=launch.priority,
            pinned_to=launch.pinned_to,
            launched_by=by,
        )
        for position, (kind, config) in enumerate(configs.items())
    ]
    enqueue_on_commit("train", "rlhf.jobs.train", runs[0].pk)
    return round


def launch_comparison(
    project: Project, *, by: User | None, policies: list[Policy], prompts_at_most: int
) -> Run:
    """Samples one answer of each policy to held-out prompts, and then opens the work of comparing
    them, blind. Raises NotReady."""
    if len(policies) < 2:
        message = "Choose at least two policies to compare."
        raise NotReady([Finding("one_policy", message, is_error=True)])
    prompts = held_out_prompts(project, prompts_at_most)
    return launch_sampling(
        project, by=by, policies=policies, k=1, prompts=prompts, is_comparison=True
    )


def launch_more(policy: Policy, opponent: Policy, *, by: User | None, prompts: int) -> Run:
    """Has people compare the two on so many more held-out prompts: on such as nobody has compared
    them on. Raises NotReady."""
    project = policy.project
    met = {each.prompt for each in between(matches_of(project), policy.pk, opponent.pk)}
    held_out = held_out_prompts(project, prompts + len(met))
    fresh = [each for each in held_out if each.pk not in met][:prompts]
    if not fresh:
        message = "They were compared on every held-out prompt. Import more prompts first."
        raise NotReady([Finding("no_prompts", message, is_error=True)])
    return launch_sampling(
        project, by=by, policies=[policy, opponent], k=1, prompts=fresh, is_comparison=True
    )


def launch_sampling(
    project: Project,
    *,
    by: User | None,
    policies: list[Policy],
    k: int,
    prompts: list[Prompt],
    seed: int = 0,
    distil: bool = False,
    is_comparison: bool = False,
) -> Run:
    """Samples `k` completions of each prompt from each policy, and then opens the work of ranking
    them. Raises NotReady.

    With `distil`, the finished answers become demonstrations instead: what a policy says with its
    prompt, another can learn to say without."""
    _check_sampling(policies, k, prompts, distil=distil)
    config = {
        "policies": sorted(policy.pk for policy in policies),
        "prompts": sorted(prompt.pk for prompt in prompts),
        "train": {**recipe_of("sample", "small")["train"], "k": k},
        "distil": distil,
        "is_comparison": is_comparison,
    }
    return Run.launch(project, kind=Run.Kind.SAMPLE, config=config, by=by, seed=seed)


def resume_round(round: Round, *, limit: float | None = None) -> bool:
    """Resumes every stage that stopped early, in order; one that a guard has paused with `limit`,
    if given, in place of the limit it met. Returns whether there was one."""
    runs = round.runs.all()
    resumed = [
        run for run in runs if run.resume(**({} if limit is None else with_limit(run, limit)))
    ]
    for run in resumed[:1]:
        enqueue_on_commit("train", "rlhf.jobs.train", run.pk)
    return bool(resumed)


@transaction.atomic
def launch_again(round: Round, *, by: User) -> Round:
    """Launches the same recipe on the same filters, as of now, without what was withdrawn
    meanwhile: it starts from the nearest ancestor of its base that owes nothing to that,
    and trains a reward model where the one it was launched with does. While such
    a round is under way there is no second one."""
    lock_project(round.project)
    note = f"{round} without what was withdrawn"
    if launched := Round.objects.of_project(round.project).under_way().with_note(note).first():
        return launched
    stale = stale_in(round.project)
    base = round.base
    while base.pk in stale.policies and base.parent:
        base = base.parent
    launch = replace(Launch.like(round), base=base, note=note)
    teacher = launch.reward_model
    if teacher and teacher.checkpoint.run_id in stale.runs:  # a new one, of what is left
        launch = replace(launch, reward_model=None, stages=(*launch.stages, Run.Kind.REWARD))
    return launch_round(round.project, launch, by=by)


def prioritise_round(round: Round) -> bool:
    """Moves a round before all that waits now. Returns whether anything moved."""
    highest = Run.objects.waiting().exclude(round=round).aggregate(Max("priority"))
    priority = (highest["priority__max"] or 0) + 1
    moved = [run.prioritise(priority) for run in round.runs.all()]
    return any(moved)


def cancel_round(round: Round) -> bool:
    """Cancels a round's stages, the later first, so that none starts while the earlier ones end.
    Returns whether there was one to cancel."""
    asked = [run.request_cancel() for run in round.runs.order_by("-position")]
    return any(asked)


def _check_sampling(policies: list[Policy], k: int, prompts: list[Prompt], *, distil: bool) -> None:
    findings = [finding for policy in policies for finding in check_speaker(policy)]
    if not policies:
        findings.append(Finding("no_policies", "Choose at least one policy.", is_error=True))
    if not prompts:
        message = "No prompts match. Import some, or choose another split."
        findings.append(Finding("no_prompts", message, is_error=True))
    if not 1 <= k <= 16:
        findings.append(Finding("bad_k", "K must be between 1 and 16.", is_error=True))
    elif distil and (len(policies), k) != (1, 1):
        message = "Distil one policy at a time, and one completion of each prompt."
        findings.append(Finding("not_distillable", message, is_error=True))
    elif policies and len(policies) * k < 2 and not distil:
        message = "One completion cannot be ranked: ask for at least two of each prompt."
        findings.append(Finding("one_completion", message, is_error=True))
    if len(policies) * k * len(prompts) > MOST_COMPLETIONS:
        message = f"That is more than {MOST_COMPLETIONS:,} completions. Choose fewer prompts."
        findings.append(Finding("too_many", message, is_error=True))
    if findings:
        raise NotReady(findings)
