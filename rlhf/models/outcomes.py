"""What runs leave behind, and what was decided about it."""

from __future__ import annotations

from collections.abc import Container

from django.db import models
from django.db.models import Q

from annotate.models import (
    Demonstration,
    Document,
    Feedback,
    JudgeRanking,
    Policy,
    Project,
    Prompt,
    Ranking,
    User,
)
from annotate.prompts.models import FROM_CHAT
from annotate.prompts.withdrawals import prompts_of
from rlhf.models.checkpoints import Checkpoint
from rlhf.models.runs import Round, Run


class SnapshotQuerySet(models.QuerySet["Snapshot"]):
    def of_project(self, project: Project) -> SnapshotQuerySet:
        return self.filter(project=project)

    def with_data_of(self, people: models.QuerySet[User]) -> SnapshotQuerySet:
        """Keeps snapshots that hold a label of one of these people, a prompt they asked, or a label
        on such a prompt."""
        asked = prompts_of(people).values("pk")
        written = Q(demonstration__labeler__in=people) | Q(demonstration__prompt__in=asked)
        ranked = Q(ranking__labeler__in=people) | Q(ranking__prompt__in=asked)
        thumb = (
            Q(feedback__user__in=people)
            | Q(feedback__completion__prompt__in=asked)
            | Q(feedback__message__completion__prompt__in=asked)
        )
        holding = (
            Snapshot.demonstrations.through.objects.filter(written),
            Snapshot.rankings.through.objects.filter(ranked),
            Snapshot.judge_rankings.through.objects.filter(judgeranking__task__prompt__in=asked),
            Snapshot.feedback.through.objects.filter(thumb),
            Snapshot.prompts.through.objects.filter(prompt__in=asked),
            Snapshot.guests.through.objects.filter(user__in=people),
        )
        found = Q(pk__in=[])
        for rows in holding:
            found |= Q(pk__in=rows.values("snapshot"))
        return self.filter(found)


class Snapshot(models.Model):
    """The frozen, hashed set of labels a run learns from. The rows name every label in it."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="snapshots")
    run = models.OneToOneField(Run, models.CASCADE, related_name="snapshot")
    sha256 = models.CharField(max_length=64)
    counts = models.JSONField(help_text="Lines of each data file.")
    filters = models.JSONField(default=dict)
    agreement = models.FloatField(
        null=True, help_text="How often the people in its rankings prefer the same, 0 to 1."
    )
    demonstrations = models.ManyToManyField(Demonstration, related_name="snapshots")
    rankings = models.ManyToManyField(Ranking, related_name="snapshots")
    judge_rankings = models.ManyToManyField(
        JudgeRanking, related_name="snapshots", help_text="Of judges that were admitted by name."
    )
    feedback = models.ManyToManyField(Feedback, related_name="snapshots")
    prompts = models.ManyToManyField(Prompt, related_name="snapshots")
    documents = models.ManyToManyField(Document, related_name="snapshots")
    guests = models.ManyToManyField(
        User, related_name="+", help_text="Who asked or judged in the chat; they may delete it."
    )
    frozen_at = models.DateTimeField(auto_now_add=True)

    objects = SnapshotQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"snapshot {self.sha256[:12]}"

    def remember_guests(self) -> None:
        """Stores whose chats it was made of: it is still made of them once they are deleted."""
        held = (
            self.prompts.order_by().values("pk"),
            self.demonstrations.order_by().values("prompt"),
            self.rankings.order_by().values("prompt"),
            self.judge_rankings.order_by().values("task__prompt"),
            self.feedback.order_by().values("completion__prompt"),
            self.feedback.order_by().values("message__completion__prompt"),
        )
        is_held = Q(pk__in=[])
        for prompts in held:
            is_held |= Q(pk__in=prompts)
        asked = User.objects.filter(
            conversations__messages__completion__prompt__in=Prompt.objects.order_by().filter(
                is_held, source=FROM_CHAT
            )
        )
        judged = Q(pk__in=self.feedback.order_by().values("user"))
        for labels in (self.demonstrations, self.rankings):
            judged |= Q(pk__in=labels.of_guests().order_by().values("labeler"))
        self.guests.set(User.objects.filter(judged | Q(pk__in=asked.order_by().values("pk"))))


def snapshot_of(run: Run) -> Snapshot | None:
    """Returns what `run` learns from; None before it is frozen, and where nothing is learnt."""
    return getattr(run, "snapshot", None)


class RewardModelQuerySet(models.QuerySet["RewardModel"]):
    def of_project(self, project: Project) -> RewardModelQuerySet:
        return self.filter(project=project).select_related("checkpoint__run__round")

    def judge_of(self, round: Round, *, stale_runs: Container[int] = ()) -> RewardModel | None:
        """Finds the reward model that the round learns from, or else the project's newest, one that
        no withdrawn data has taught before any other: it judges, and trains nothing. `stale_runs`:
        ids of runs made of data that was withdrawn since."""
        models = list(
            self.filter(project=round.project, checkpoint__removed_at=None).select_related(
                "checkpoint__run__round"
            )
        )
        own = [
            each
            for each in models
            if each.checkpoint.run.round_id == round.pk or each.pk == round.reward_model_id
        ]
        clean = [each for each in models if each.checkpoint.run_id not in stale_runs]
        return next(iter([*own, *clean, *models]), None)

    def teacher_of(self, round: Round | None) -> RewardModel | None:
        """Finds the one that a round learns from: its own, or that of an earlier round it was
        launched with."""
        if round is None:
            return None
        found = Q(checkpoint__run__round=round) | Q(pk=round.reward_model_id)
        return self.select_related("checkpoint__run__round").filter(found).first()

    def to_reuse(self, project: Project, *, stale_runs: Container[int] = ()) -> RewardModelQuerySet:
        """Keeps those whose files are here and that no withdrawn data has taught."""
        here = self.filter(project=project, checkpoint__removed_at=None)
        here = here.select_related("checkpoint__run__round")
        return here.exclude(checkpoint__run__in=stale_runs)

    def in_folder(self, project: Project, folder: str) -> RewardModel | None:
        """Finds the one whose weights were published there."""
        return self.filter(project=project, checkpoint__folder=folder).first() if folder else None


class RewardModel(models.Model):
    """Scores a completion. Calibrated: the demonstrations it learnt beside score 0 on average."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="reward_models")
    checkpoint = models.OneToOneField(Checkpoint, models.PROTECT, related_name="reward_model")
    accuracy = models.FloatField(null=True, help_text="On held-out comparisons, 0 to 1.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = RewardModelQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"reward model {self.pk}"

    @property
    def name(self) -> str:
        """Names it as policies are named, by the round that made it."""
        round = self.checkpoint.run.round
        return f"r{round.number}-reward" if round else str(self)


class TrainedPolicyQuerySet(models.QuerySet["TrainedPolicy"]):
    def of(self, policy: Policy) -> TrainedPolicy | None:
        return self.select_related("checkpoint__run__round").filter(policy=policy).first()

    def of_project(self, project: Project) -> TrainedPolicyQuerySet:
        return self.filter(policy__project=project).select_related("policy", "checkpoint__run")

    def made_in(self, round: Round) -> TrainedPolicyQuerySet:
        """Keeps what a round made, in the order of its stages."""
        made = self.filter(checkpoint__run__round=round)
        made = made.select_related("policy", "checkpoint__run")
        return made.order_by("checkpoint__run__position", "checkpoint__step")

    def final(self) -> TrainedPolicyQuerySet:
        """Leaves out those of epochs on the way, from which nothing goes on by itself."""
        return self.filter(checkpoint__epoch=None)

    def before(self, position: int) -> TrainedPolicyQuerySet:
        return self.filter(checkpoint__run__position__lt=position)

    def policy_by(self, kind: str) -> Policy:
        """Returns the policy of the one run of the kind."""
        return self.get(checkpoint__run__kind=kind).policy

    def by_reward_model(self) -> TrainedPolicyQuerySet:
        """Keeps those that a reward model has taught."""
        return self.filter(checkpoint__run__kind__in=Run.BY_REWARD_MODEL)


class TrainedPolicy(models.Model):
    """How a policy came to be: the checkpoint whose weights it speaks with."""

    policy = models.OneToOneField(Policy, models.CASCADE, related_name="training")
    checkpoint = models.OneToOneField(Checkpoint, models.PROTECT, related_name="trained_policy")

    objects = TrainedPolicyQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.policy} from {self.checkpoint}"


class Evaluation(models.Model):
    """One policy against another on held-out prompts, by one judge."""

    class Judge(models.TextChoices):
        REWARD_MODEL = "reward_model", "reward model"
        GOLD = "gold", "stated measure"

    run = models.ForeignKey(Run, models.CASCADE, null=True, related_name="evaluations")
    round = models.ForeignKey(Round, models.CASCADE, null=True, related_name="evaluations")
    policy = models.ForeignKey(Policy, models.PROTECT, related_name="evaluations")
    opponent = models.ForeignKey(Policy, models.PROTECT, related_name="+")
    judge = models.CharField(max_length=20, choices=Judge)
    reward_model = models.ForeignKey(
        RewardModel,
        models.SET_NULL,
        null=True,
        related_name="evaluations",
        help_text="Which one judged.",
    )
    wins = models.PositiveIntegerField()
    losses = models.PositiveIntegerField()
    ties = models.PositiveIntegerField(default=0)
    win_rate = models.FloatField(help_text="Wins plus half the ties, over all.")
    low = models.FloatField(
        null=True, help_text="Lower end of the 95 % interval; none of one prompt."
    )
    high = models.FloatField(null=True, help_text="Upper end of the 95 % interval.")
    prompts = models.PositiveIntegerField(null=True, help_text="On how many prompts they met.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(condition=~Q(policy=models.F("opponent")), name="two_policies")
        ]

    def __str__(self) -> str:
        return f"{self.policy} against {self.opponent}: {self.win_rate:.0%}"

    def turned_round(self) -> Evaluation:
        """The same from the opponent's side; not to be stored."""
        return Evaluation(
            policy_id=self.opponent_id,
            opponent_id=self.policy_id,
            judge=self.judge,
            reward_model=self.reward_model,
            wins=self.losses,
            losses=self.wins,
            ties=self.ties,
            win_rate=1 - self.win_rate,
            low=None if self.high is None else 1 - self.high,
            high=None if self.low is None else 1 - self.low,
            prompts=self.prompts,
        )


class Promotion(models.Model):
    """A decision about a policy, with its reason. Rolling back is a promotion too."""

    class Act(models.TextChoices):
        PROMOTE = "promote", "promoted"
        CHALLENGE = "challenge", "made the challenger"
        REJECT = "reject", "rejected"

    project = models.ForeignKey(Project, models.CASCADE, related_name="promotions")
    policy = models.ForeignKey(Policy, models.PROTECT, related_name="promotions")
    previous = models.ForeignKey(Policy, models.PROTECT, null=True, related_name="+")
    act = models.CharField(max_length=10, choices=Act, default=Act.PROMOTE)
    is_rollback = models.BooleanField(default=False)
    reason = models.CharField(max_length=500)
    conditions = models.JSONField(
        default=list, help_text="What the gate saw; see rlhf.registry.gate."
    )
    override = models.CharField(
        max_length=500, blank=True, help_text="Why it was promoted although the gate was shut."
    )
    decided_by = models.ForeignKey(User, models.PROTECT, related_name="promotions")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.policy} {self.get_act_display()}"
