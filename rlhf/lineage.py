"""What a policy was made of, down to who judged; and what a person's labels went into.

Plain data, for a page and for JSON alike."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Q

from annotate.models import Policy, Project, User
from rlhf.models import RewardModel, Run, Snapshot, TrainedPolicy

Plain = dict[str, Any]


def lineage_of(policy: Policy) -> list[Plain]:
    """The policy, then its parent, and so on down to a base model."""
    steps: list[Plain] = []
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
                "training": _training(training) if training else None,
            }
        )
        ancestor = ancestor.parent
    return steps


def _training(training: TrainedPolicy) -> Plain:
    run = training.checkpoint.run
    return {
        "manifest_sha256": training.checkpoint.manifest_sha256,
        "run": _run(run),
        "reward_model": _reward_model(run) if run.kind == Run.Kind.PPO else None,
    }


def _reward_model(ppo: Run) -> Plain | None:
    model = (
        RewardModel.objects.select_related("checkpoint__run__round")
        .filter(checkpoint__run__round=ppo.round)
        .first()
    )
    if model is None:
        return None
    return {
        "id": model.pk,
        "accuracy": model.accuracy,
        "manifest_sha256": model.checkpoint.manifest_sha256,
        "run": _run(model.checkpoint.run),
    }


def _run(run: Run) -> Plain:
    snapshot = Snapshot.objects.filter(run=run).first()
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
        "frozen_at": snapshot.frozen_at.isoformat(),
        "demonstrations": list(snapshot.demonstrations.order_by("pk").values_list("pk", flat=True)),
        "rankings": list(snapshot.rankings.order_by("pk").values_list("pk", flat=True)),
        "prompts": snapshot.prompts.count(),
        "labelers": labelers_of(snapshot),
    }


def labelers_of(snapshot: Snapshot) -> list[Plain]:
    """Whose labels are in it, the most first."""
    mine = Count("demonstrations", filter=Q(demonstrations__snapshots=snapshot), distinct=True)
    judged = Count("rankings", filter=Q(rankings__snapshots=snapshot), distinct=True)
    people = (
        User.objects.filter(Q(demonstrations__snapshots=snapshot) | Q(rankings__snapshots=snapshot))
        .annotate(demonstration_count=mine, ranking_count=judged)
        .order_by("-ranking_count", "-demonstration_count", "pk")
        .distinct()
    )
    return [
        {
            "username": person.username,
            "name": person.display_name,
            "demonstrations": person.demonstration_count,
            "rankings": person.ranking_count,
        }
        for person in people
    ]


def reach_of(labeler: User, project: Project) -> Plain:
    """What a person's labels went into: snapshots, and every policy that descends from them."""
    snapshots = (
        Snapshot.objects.filter(project=project)
        .filter(Q(demonstrations__labeler=labeler) | Q(rankings__labeler=labeler))
        .select_related("run__round")
        .distinct()
        .order_by("pk")
    )
    reached = list(snapshots)
    return {
        "labeler": labeler.username,
        "name": labeler.display_name,
        "snapshots": [
            {
                "id": snapshot.pk,
                "sha256": snapshot.sha256,
                "round": snapshot.run.round.number if snapshot.run.round else None,
                "kind": snapshot.run.get_kind_display(),
            }
            for snapshot in reached
        ],
        "policies": [
            {"id": policy.pk, "policy": policy.name, "state": policy.state}
            for policy in policies_from(reached)
        ],
    }


def policies_from(snapshots: list[Snapshot]) -> list[Policy]:
    """Trained on one of them, by way of its reward model, or descended from such a policy."""
    runs = [snapshot.run for snapshot in snapshots]
    judged = [run.round_id for run in runs if run.kind == Run.Kind.REWARD]
    found = set(
        Policy.objects.filter(
            Q(training__checkpoint__run__in=runs)
            | Q(
                training__checkpoint__run__round__in=judged,
                training__checkpoint__run__kind=Run.Kind.PPO,
            )
        )
    )
    young = found
    while young:
        young = set(Policy.objects.filter(parent__in=young)) - found
        found |= young
    return sorted(found, key=lambda policy: policy.pk)
