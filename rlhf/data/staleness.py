"""What was made of what, and what is stale by that.

Nothing is marked by hand: a snapshot is stale as long as it holds a label or prompt of somebody who
has withdrawn, and whatever descends from it is stale with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import connection

from annotate.models import Project
from annotate.prompts.withdrawals import withdrawn_from
from rlhf.models.outcomes import Snapshot
from rlhf.models.runs import Run

# A run is made of its snapshot, of its round's base and of the earlier runs of its round, where the
# A run is made of its snapshot, of its round's base and of the earlier runs of its round, where the
# reward model, be it of an earlier round, reaches those alone that learn from it; a policy of its
# run and of its parent; a snapshot of the policies whose answers are demonstrations in it, and of
# those that judge in it.
DESCENDANTS = """
WITH RECURSIVE made(kind, id) AS (
    SELECT 'snapshot', unnest(%(snapshots)s::bigint[])
  UNION
    SELECT step.kind, step.id FROM made JOIN (
        SELECT 'snapshot' AS from_kind, id AS from_id, 'run' AS kind, run_id AS id
        FROM rlhf_snapshot
      UNION ALL
        SELECT 'run', earlier.id, 'run', later.id
        FROM rlhf_run AS earlier JOIN rlhf_run AS later
          ON later.round_id = earlier.round_id AND later.position > earlier.position
        WHERE later.started_at IS NOT NULL AND later.kind <> 'evaluate'
          AND (earlier.kind <> 'reward' OR later.kind = ANY(%(by_reward_model)s))
      UNION ALL
        SELECT 'run', checkpoint.run_id, 'policy', trained.policy_id
        FROM rlhf_trainedpolicy AS trained
        JOIN rlhf_checkpoint AS checkpoint ON checkpoint.id = trained.checkpoint_id
      UNION ALL
        SELECT 'policy', parent_id, 'policy', id FROM annotate_policy WHERE parent_id IS NOT NULL
      UNION ALL
        SELECT 'policy', round.base_id, 'run', run.id
        FROM rlhf_round AS round JOIN rlhf_run AS run ON run.round_id = round.id
        WHERE run.started_at IS NOT NULL AND run.kind <> 'evaluate'
      UNION ALL
        SELECT 'run', checkpoint.run_id, 'run', run.id
        FROM rlhf_round AS round
        JOIN rlhf_rewardmodel AS model ON model.id = round.reward_model_id
        JOIN rlhf_checkpoint AS checkpoint ON checkpoint.id = model.checkpoint_id
        JOIN rlhf_run AS run ON run.round_id = round.id
        WHERE run.started_at IS NOT NULL AND run.kind = ANY(%(by_reward_model)s)
      UNION ALL
        SELECT 'policy', demonstration.distilled_from_id, 'snapshot', held.snapshot_id
        FROM annotate_demonstration AS demonstration
        JOIN rlhf_snapshot_demonstrations AS held ON held.demonstration_id = demonstration.id
        WHERE demonstration.distilled_from_id IS NOT NULL
      UNION ALL
        SELECT 'policy', judge.policy_id, 'snapshot', held.snapshot_id
        FROM annotate_judge AS judge
        JOIN annotate_judgeranking AS said ON said.judge_id = judge.id
        JOIN rlhf_snapshot_judge_rankings AS held ON held.judgeranking_id = said.id
    ) AS step ON step.from_kind = made.kind AND step.from_id = made.id
)
SELECT kind, id FROM made ORDER BY kind, id
"""


@dataclass(frozen=True)
class Descendants:
    """Ids of some snapshots, and of all that was made of them."""

    snapshots: list[int]
    runs: list[int]
    policies: list[int]


def descendants_of(snapshots: Iterable[Snapshot]) -> Descendants:
    found: dict[str, list[int]] = {"snapshot": [], "run": [], "policy": []}
    with connection.cursor() as cursor:
        values: dict[str, Any] = {
            "snapshots": [each.pk for each in snapshots],
            "by_reward_model": list(Run.BY_REWARD_MODEL),
        }
        cursor.execute(DESCENDANTS, values)
        for kind, pk in cursor.fetchall():
            found[kind].append(pk)
    return Descendants(found["snapshot"], found["run"], found["policy"])


def stale_in(project: Project) -> Descendants:
    """Finds what was made of data that was withdrawn since."""
    withdrawn = withdrawn_from(project)
    if not withdrawn.exists():  # as a rule; to look through all snapshots takes its time
        return Descendants([], [], [])
    return descendants_of(Snapshot.objects.of_project(project).with_data_of(withdrawn))
