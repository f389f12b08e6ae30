"""Who has taken their data back from training, and what was already made of it.

Nothing is marked by hand: a snapshot is stale as long as a label or prompt in it belongs to a
withdrawn person, and whatever descends from a stale snapshot is stale with it."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection, models

from annotate.models import Project, Prompt, User
from annotate.models.chat import PROMPT_SOURCE

# What was made of what: a run of its snapshot and of the earlier runs of its round, a round's runs
# of its base, a policy of its run and of its parent.
DESCENDANTS = """
WITH RECURSIVE made(kind, id) AS (
    SELECT 'run', run_id FROM rlhf_snapshot WHERE id = ANY(%(snapshots)s)
  UNION
    SELECT step.kind, step.id FROM made JOIN (
        SELECT 'run' AS from_kind, earlier.id AS from_id, 'run' AS kind, later.id AS id
        FROM rlhf_run AS earlier JOIN rlhf_run AS later
          ON later.round_id = earlier.round_id AND later.position > earlier.position
        WHERE later.started_at IS NOT NULL AND later.kind <> 'evaluate'
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
    ) AS step ON step.from_kind = made.kind AND step.from_id = made.id
)
SELECT kind, id FROM made ORDER BY kind, id
"""


@dataclass(frozen=True)
class Descendants:
    """Ids of what was made of some snapshots."""

    runs: list[int]
    policies: list[int]


def descendants_of(snapshots: list[int]) -> Descendants:
    with connection.cursor() as cursor:
        cursor.execute(DESCENDANTS, {"snapshots": snapshots})
        rows = cursor.fetchall()
    found: dict[str, list[int]] = {"run": [], "policy": []}
    for kind, pk in rows:
        found[kind].append(pk)
    return Descendants(runs=found["run"], policies=found["policy"])


def prompts_of_guests(people: models.QuerySet[User]) -> models.QuerySet[Prompt]:
    """What these people asked in the chat, where it became data."""
    asked = Prompt.objects.filter(completions__message__conversation__guest__in=people)
    return asked.filter(source=PROMPT_SOURCE).order_by()


class WithdrawalQuerySet(models.QuerySet["Withdrawal"]):
    def of_person(self, person: User) -> WithdrawalQuerySet:
        return self.filter(person=person)


class Withdrawal(models.Model):
    """From now on nothing of this person's trains a model of the project."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="withdrawals")
    person = models.ForeignKey(User, models.PROTECT, related_name="withdrawals")
    reason = models.CharField(max_length=500, blank=True)
    decided_by = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = WithdrawalQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["project", "person"], name="one_withdrawal_a_person")
        ]

    def __str__(self) -> str:
        return f"{self.person} withdrew from {self.project}"

    @classmethod
    def withdraw(
        cls, project: Project, *, person: User, by: User | None, reason: str = ""
    ) -> Withdrawal:
        """Once a person, however often it is wished."""
        withdrawal, _ = cls.objects.get_or_create(
            project=project, person=person, defaults={"decided_by": by, "reason": reason}
        )
        return withdrawal


def withdrawn_from(project: Project) -> models.QuerySet[User]:
    return User.objects.filter(withdrawals__project=project).order_by()
