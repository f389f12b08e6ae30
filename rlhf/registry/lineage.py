"""What a policy was made of, down to who judged; and what a person's labels went into.

Plain data, for a page and for JSON alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import Count, Q

from annotate.labels.kinds.edit import Edit
from annotate.models import Judge, Policy, Project, User
from rlhf.data.selection import HELD_OUT
from rlhf.data.staleness import descendants_of
from rlhf.models.outcomes import RewardModel, Snapshot, TrainedPolicy, snapshot_of
from rlhf.models.runs import Run
from rlhf.registry.health import accuracies_of
from rlhf.stages import TRAININGS

Plain = dict[str, Any]


def lineage_of(policy: Policy) -> list[Plain]:
    """Lists the policy, then its parent, and so on down to a base model, each with what it was
    trained on."""
    steps: list[Plain] = []
    left = _left_by(policy.project)
    ancestor: Policy | None = policy
    while ancestor:
        training = TrainedPolicy.objects.of(ancestor)
        steps.append(
            {
                "policy": ancestor.name,
                "id": ancestor.pk,
                "state": ancestor.state,
                "origin": ancestor.get_origin_display(),
                "folder": ancestor.folder,
                "provider": ancestor.provider,
                "model": ancestor.model_name,
                "training": _training(training) if training else None,
                "stale_by": [each for each, policies in left if ancestor.pk in policies],
            }
        )
        ancestor = ancestor.parent
    return steps


def _left_by(project: Project) -> list[tuple[Plain, set[int]]]:
    """Who has withdrawn, each with the ids of the policies that their data went into."""
    left = project.withdrawals.select_related("person")
    return [
        (
            {
                "username": each.person.username,
                "name": each.person.display_name,
                "on": each.created_at.date().isoformat(),
                "reason": each.reason,
            },
            set(descendants_of(_holding(each.person, project)).policies),
        )
        for each in left
    ]


def _holding(person: User, project: Project) -> Iterable[Snapshot]:
    return Snapshot.objects.of_project(project).with_data_of(User.objects.filter(pk=person.pk))


def _training(training: TrainedPolicy) -> Plain:
    run = training.checkpoint.run
    return {
        "manifest_sha256": training.checkpoint.manifest_sha256,
        "epoch": training.checkpoint.epoch,
        "run": _run(run),
        "reward_model": _reward_model(run) if run.kind in Run.BY_REWARD_MODEL else None,
    }


def _reward_model(run: Run) -> Plain | None:
    model = RewardModel.objects.teacher_of(run.round)
    if model is None:
        return None
    return {
        "id": model.pk,
        "accuracy": model.accuracy,
        **_ends_of_accuracy(model.checkpoint.run),
        "manifest_sha256": model.checkpoint.manifest_sha256,
        "run": _run(model.checkpoint.run),
    }


def _ends_of_accuracy(run: Run) -> Plain:
    found = accuracies_of([run]).get(run.pk)
    return {
        "accuracy_low": found and found.low,
        "accuracy_high": found and found.high,
        "comparisons": found and found.comparisons,
    }


def _run(run: Run) -> Plain:
    snapshot = snapshot_of(run)
    return {
        "id": run.pk,
        "kind": run.kind,
        "name": run.get_kind_display(),
        "round": run.round.number if run.round else None,
        "seed": run.seed,
        "snapshot": _snapshot(snapshot) if snapshot else None,
    }


def _snapshot(snapshot: Snapshot) -> Plain:
    return {
        "id": snapshot.pk,
        "sha256": snapshot.sha256,
        "reads": TRAININGS[snapshot.run.kind].reads(snapshot.counts),
        "frozen_at": snapshot.frozen_at.isoformat(),
        "demonstrations": list(snapshot.demonstrations.order_by("pk").values_list("pk", flat=True)),
        "distilled_from": _teachers(snapshot),
        "rankings": list(snapshot.rankings.order_by("pk").values_list("pk", flat=True)),
        "judges": judges_of(snapshot),
        "edits": _edits(snapshot),
        "held_out": _held_out(snapshot),
        "prompts": snapshot.prompts.count(),
        "thumbs": snapshot.feedback.count(),
        "documents": snapshot.documents.count(),
        "guests": guests_in(snapshot),
        "labelers": labelers_of(snapshot),
    }


def _edits(snapshot: Snapshot) -> list[Plain]:
    """The demonstrations in it that correct a completion, with the policy that had said it."""
    edits = Edit.objects.filter(snapshots=snapshot).select_related("original__policy")
    return [
        {"id": each.pk, "completion": each.original_id, "policy": each.original.policy.name}
        for each in edits.order_by("pk")
    ]


def _teachers(snapshot: Snapshot) -> list[Plain]:
    """The policies whose answers are demonstrations in it."""
    teachers = Policy.objects.filter(distillations__snapshots=snapshot).distinct().order_by("pk")
    return [{"id": each.pk, "policy": each.name} for each in teachers]


def _held_out(snapshot: Snapshot) -> int:
    """How many of its labels measure, and teach nothing."""
    labels = (snapshot.demonstrations.all(), snapshot.rankings.all())
    prompts = snapshot.prompts.in_split(*HELD_OUT).count()
    return prompts + sum(each.in_split(*HELD_OUT).count() for each in labels)


def guests_in(snapshot: Snapshot) -> Plain:
    """What guests of the chat said that is in it, beside their thumbs."""
    return {
        "demonstrations": snapshot.demonstrations.of_guests().count(),
        "rankings": snapshot.rankings.of_guests().count(),
    }


def labelers_of(snapshot: Snapshot) -> list[Plain]:
    """Lists whose labels are in a snapshot, the most first; and the guests who asked or judged in
    the chat, whose part may be deleted by now."""
    mine = Count("demonstrations", filter=Q(demonstrations__snapshots=snapshot), distinct=True)
    judged = Count("rankings", filter=Q(rankings__snapshots=snapshot), distinct=True)
    given = Count("feedback", filter=Q(feedback__snapshots=snapshot), distinct=True)
    people = (
        User.objects.filter(
            Q(demonstrations__snapshots=snapshot)
            | Q(rankings__snapshots=snapshot)
            | Q(feedback__snapshots=snapshot)
            | Q(pk__in=snapshot.guests.order_by().values("pk"))
        )
        .annotate(demonstration_count=mine, ranking_count=judged, thumb_count=given)
        .order_by("-ranking_count", "-demonstration_count", "pk")
        .distinct()
    )
    return [
        {
            "username": person.username,
            "name": person.display_name,
            "demonstrations": person.demonstration_count,
            "rankings": person.ranking_count,
            "thumbs": person.thumb_count,
        }
        for person in people
    ]


def judges_of(snapshot: Snapshot) -> list[Plain]:
    """Lists the judges that were admitted to a snapshot, by their names, with what they judged by
    and with."""
    mine = Count("rankings", filter=Q(rankings__snapshots=snapshot))
    judges = Judge.objects.filter(rankings__snapshots=snapshot).distinct().order_by("pk")
    return [
        {
            "id": judge.pk,
            "judge": str(judge),
            "policy": judge.policy.name,
            "provider": judge.policy.provider,
            "model": judge.policy.model_name,
            "rubric": judge.rubric,
            "form": judge.form,
            "rankings": judge.ranking_count,
        }
        for judge in judges.select_related("policy__connection").annotate(ranking_count=mine)
    ]


def reach_of(person: User, project: Project) -> Plain:
    """Lists what somebody's data went into: snapshots, the runs made of them, every policy that
    descends from those, and what learnt from the answers of such a policy."""
    mine = Snapshot.objects.of_project(project).with_data_of(User.objects.filter(pk=person.pk))
    made = descendants_of(mine)
    snapshots = Snapshot.objects.filter(pk__in=made.snapshots).select_related("run__round")
    runs = Run.objects.select_related("round").order_by("pk").in_bulk(made.runs).values()
    return {
        "labeler": person.username,
        "name": person.display_name,
        "snapshots": [
            {
                "id": each.pk,
                "sha256": each.sha256,
                "distilled": each not in mine,
                **_named(each.run),
            }
            for each in snapshots.order_by("pk")
        ],
        "runs": [{"id": run.pk, "state": run.get_state_display(), **_named(run)} for run in runs],
        "rounds": sorted({run.round.number for run in runs if run.round}),
        "policies": [
            {"id": policy.pk, "policy": policy.name, "state": policy.state}
            for policy in Policy.objects.filter(pk__in=made.policies).order_by("pk")
        ],
    }


def _named(run: Run) -> Plain:
    return {"round": run.round.number if run.round else None, "kind": run.get_kind_display()}
