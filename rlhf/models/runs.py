"""Rounds and runs. The row is the truth: a run happens because its row says `queued`.

Every move of a run is a compare-and-swap: the verb names the states it may come from, and the one
who is too late gets False. What a worker writes it writes under its lease (see `leases`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models, transaction
from django.db.models import Exists, F, Max, OuterRef, Q
from django.db.models.functions import Coalesce, Now
from django.urls import reverse
from django.utils import timezone

from annotate.ids import id_in
from annotate.models import Policy, Project, User
from annotate.notices.models import News
from annotate.prompts.models import content_hash
from annotate.webhooks.models import Event, announce
from feedback_site.bell import enqueue_on_commit
from rlhf.learning.contract.config import current_names

RUNS_SHOWN = 5  # of a kind, on a page that is about other things
CANCELLED_BY_HAND = "cancelled"  # and no other reason


class LeaseLost(Exception):
    """Somebody else took the run over. Stop at once, and write nothing."""


class RoundQuerySet(models.QuerySet["Round"]):
    def of_project(self, project: Project) -> RoundQuerySet:
        return self.filter(project=project)

    def under_way(self) -> RoundQuerySet:
        """Keeps rounds that go on, without those that ended early, whose later stages may wait for
        ever."""
        ended_early = Run.objects.over().exclude(state=Run.State.SUCCEEDED)
        return self.filter(
            Exists(Run.objects.not_over().filter(round=OuterRef("pk"))),
            ~Exists(ended_early.filter(round=OuterRef("pk"))),
        )

    def in_trouble(self) -> RoundQuerySet:
        """Keeps rounds that a guard or a full disk has paused, and the newest of all where it has
        failed: what failed before that was seen."""
        runs = Run.objects.filter(round=OuterRef("pk"))
        newest = self.order_by("-number").values("pk")[:1]
        paused = Exists(runs.filter(state=Run.State.PAUSED))
        return self.filter(
            paused | Q(Exists(runs.filter(state=Run.State.FAILED)), pk__in=newest.values("pk"))
        )

    def beside(self, round: Round) -> RoundQuerySet:
        """Keeps the project's other ones."""
        return self.filter(project=round.project_id).exclude(pk=round.pk)

    def numbered(self, number: int | None) -> RoundQuerySet:
        return self.filter(number=number)

    def before(self, round: Round) -> RoundQuerySet:
        """Keeps the project's earlier ones, the newest of them first."""
        earlier = self.filter(project=round.project_id, number__lt=round.number)
        return earlier.order_by("-number")

    def tags(self) -> list[str]:
        """Lists the tags of all of them, each once."""
        return sorted({tag for tags in self.values_list("tags", flat=True) for tag in tags})

    def matching(self, words: str) -> RoundQuerySet:
        """Keeps those whose name, note or tags contain all of these words, or whose number a word
        is; "round" is a word of every one."""
        found = self
        for word in words.split():
            said = Q(name__icontains=word) | Q(note__icontains=word) | Q(tags__icontains=word)
            number = id_in(word)
            if "round".startswith(word.lower()):
                continue
            found = found.filter(said | Q(number=number) if number is not None else said)
        return found

    def with_note(self, note: str) -> RoundQuerySet:
        return self.filter(note=note)

    def with_runs(self) -> RoundQuerySet:
        return self.select_related("base", "launched_by").prefetch_related(
            models.Prefetch("runs", Run.objects.select_related("snapshot").order_by("position"))
        )


class Round(models.Model):
    """One turn of the wheel: snapshot → trainings, such as SFT → reward model → PPO → evaluation
    → promotion."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="rounds")
    number = models.PositiveIntegerField()
    recipe = models.CharField(max_length=10)
    base = models.ForeignKey(Policy, models.PROTECT, related_name="rounds_from_it")
    reward_model = models.ForeignKey(
        "rlhf.RewardModel",
        models.PROTECT,
        null=True,
        related_name="rounds",
        help_text="Of an earlier round, where this one learns from it and trains none.",
    )
    name = models.CharField(max_length=60, blank=True, help_text="What people call it.")
    note = models.CharField(max_length=300, blank=True)
    tags = ArrayField(models.CharField(max_length=50), default=list, blank=True)
    filters = models.JSONField(
        default=dict, help_text="Which labels it learns from; see rlhf.data.selection."
    )
    launched_by = models.ForeignKey(User, models.PROTECT, related_name="rounds")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = RoundQuerySet.as_manager()

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["project", "number"], name="one_round_a_number")
        ]

    def __str__(self) -> str:
        return f"Round {self.number}"

    def describe(self, *, name: str, note: str, tags: list[str]) -> None:
        """Names it, and notes what it is for."""
        self.name, self.note, self.tags = name, note, tags
        self.save(update_fields=["name", "note", "tags"])

    @staticmethod
    def next_number(project: Project) -> int:
        """Returns the next free number. Call it with the project's row locked."""
        return Round.newest_number(project) + 1

    @staticmethod
    def newest_number(project: Project) -> int:
        return project.rounds.aggregate(Max("number"))["number__max"] or 0


@dataclass(frozen=True)
class SomeRuns:
    """Runs that a page lists, of so many `in_all`."""

    shown: list[Run]
    in_all: int

    @property
    def are_under_way(self) -> bool:
        return any(not run.stands_still for run in self.shown)

    @property
    def digest(self) -> str:
        """Changes when there is something new to show."""
        return content_hash([self.in_all, *([run.pk, run.state] for run in self.shown)])


class RunQuerySet(models.QuerySet["Run"]):
    def of_project(self, project: Project) -> RunQuerySet:
        return self.filter(project=project)

    def over(self) -> RunQuerySet:
        return self.filter(state__in=Run.ENDED)

    def not_over(self) -> RunQuerySet:
        return self.exclude(state__in=Run.ENDED)

    def waiting(self) -> RunQuerySet:
        """Keeps what a free worker could start now, in the order in which it would."""
        earlier = Run.objects.filter(round=OuterRef("round"), position__lt=OuterRef("position"))
        held_up = Exists(earlier.exclude(state=Run.State.SUCCEEDED))
        return self.filter(~held_up, state=Run.State.QUEUED).order_by("-priority", "pk")

    def with_log(self) -> RunQuerySet:
        """Keeps those whose row remembers what their trainer said."""
        return self.exclude(log_tail="")

    def samplings(self) -> RunQuerySet:
        """Keeps samplings, the newest first."""
        return self.filter(kind=Run.Kind.SAMPLE).order_by("-pk")

    def comparisons(self) -> RunQuerySet:
        """Samplings whose answers people compare; the newest first."""
        return self.samplings().filter(config__is_comparison=True)

    def listed(self, *, in_full: bool = False) -> SomeRuns:
        """Lists the first few of them, or all."""
        return SomeRuns(list(self if in_full else self[:RUNS_SHOWN]), self.count())

    def to_go_by(self, kinds: Iterable[str]) -> RunQuerySet:
        """Keeps those of rounds that succeeded, with the time they took; the newest first."""
        done = self.filter(kind__in=list(kinds), state=Run.State.SUCCEEDED, worked__gt=timedelta())
        return done.exclude(round=None).select_related("round__base", "snapshot").order_by("-pk")

    def reward_models_before(self, run: Run) -> RunQuerySet:
        """Keeps the trainings of reward models in the round of `run`, before it."""
        mine = self.filter(round=run.round_id, position__lt=run.position)
        return mine.filter(kind=Run.Kind.REWARD)

    def next_of(self, round: Round) -> RunQuerySet:
        """Keeps the run of a round that may start now, if one may."""
        return self.filter(round=round).exclude(state=Run.State.SUCCEEDED).order_by("position")


class Run(models.Model):
    """One piece of work for a trainer process: a training, a sampling, an evaluation."""

    class Kind(models.TextChoices):
        SAMPLE = "sample"
        PRETRAIN = "pretrain", "pre-training"
        SFT = "sft", "SFT"
        REWARD = "reward", "reward model"
        PPO = "ppo", "PPO"
        RLOO = "rloo", "RLOO"
        GRPO = "grpo", "GRPO"
        RAFT = "raft", "RAFT"
        DPO = "dpo", "DPO"
        KTO = "kto", "KTO"
        EVALUATE = "evaluate", "evaluation"
        SCORECARD = "scorecard"
        FETCH = "fetch", "download"

    # Learn from the reward model of their round. Here and not in rlhf.stages, because the database
    # follows withdrawn data by it (rlhf.data.staleness).
    BY_REWARD_MODEL = (Kind.PPO, Kind.RLOO, Kind.GRPO, Kind.RAFT)

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"
        PAUSED = "paused"

    ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELLED)
    RESUMABLE = (State.PAUSED, State.FAILED, State.CANCELLED)

    project = models.ForeignKey(Project, models.CASCADE, related_name="runs")
    round = models.ForeignKey(Round, models.CASCADE, null=True, related_name="runs")
    kind = models.CharField(max_length=10, choices=Kind)
    position = models.PositiveSmallIntegerField(
        default=0, help_text="Within a round: a run starts when those before it have succeeded."
    )
    config = models.JSONField(default=dict, help_text="The operator's choice; see learning.config.")
    seed = models.BigIntegerField(default=0)
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    reason = models.TextField(blank=True, help_text="Why it is paused, failed or cancelled.")
    log_tail = models.TextField(blank=True)
    step = models.PositiveIntegerField(default=0)
    total_steps = models.PositiveIntegerField(default=0)
    summary = models.JSONField(default=dict, help_text="The figures it ended with.")
    priority = models.SmallIntegerField(default=0, help_text="The higher, the earlier.")
    pinned_to = models.CharField(
        max_length=100, blank=True, help_text="The host, or host/gpu, that has to do it."
    )
    retries = models.JSONField(
        default=list, help_text="What was changed before it was tried again: [{why, changes}]."
    )
    alarms = models.JSONField(
        default=dict, help_text="What rang: {name: [first step, last step]}; see rlhf.runs.alarms."
    )
    tracking = models.JSONField(
        default=dict, help_text="What went wrong with each tracker that was told: {title: sentence}"
    )
    cancel_requested = models.BooleanField(default=False)
    lease_token = models.PositiveIntegerField(default=0)
    leased_until = models.DateTimeField(null=True)
    worker = models.CharField(max_length=100, blank=True)
    slot = models.CharField(
        max_length=100, blank=True, help_text="The host/gpu it works on: one run at a time on each."
    )
    attempts_without_progress = models.PositiveSmallIntegerField(default=0)
    launched_by = models.ForeignKey(User, models.PROTECT, null=True, related_name="runs")
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    taken_at = models.DateTimeField(null=True, help_text="When the present attempt began.")
    worked = models.DurationField(
        default=timedelta, help_text="How long the attempts before it took, without the waiting."
    )
    ended_at = models.DateTimeField(null=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["round", "position"], name="one_run_a_position")
        ]
        indexes = [
            models.Index(
                fields=["id"],
                condition=Q(state__in=["queued", "running"]),
                name="runs_to_look_after",
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} run {self.pk}"

    @property
    def folder(self) -> str:
        """Names its folder, relative to DATA_DIR."""
        return f"runs/{self.pk}"

    @property
    def is_over(self) -> bool:
        """Tells whether it has ended, one way or another."""
        return self.state in self.ENDED

    @property
    def stands_still(self) -> bool:
        """Tells whether nothing happens any more unless somebody resumes it."""
        return self.is_over or self.state == self.State.PAUSED

    @property
    def seconds(self) -> float | None:
        """Measures how long it has worked; while it waits or is paused, nothing passes."""
        if self.started_at is None:
            return None
        now = timezone.now() - self.taken_at if self.taken_at else timedelta()
        return (self.worked + now).total_seconds()

    @property
    def why_paused(self) -> str:
        """Gives the reason of a pause, also of a run that was cancelled while it was paused."""
        held = self.state in (self.State.PAUSED, self.State.CANCELLED)
        return self.reason if held and self.reason != CANCELLED_BY_HAND else ""

    @property
    def win_rates(self) -> list[tuple[str, list[float]]]:
        """Lists win rates of an evaluation, what the newest policy reached first: [(pair, [rate,
        low, high])]."""
        rates = self.summary.get("win_rates", {})
        return [(pair, rates[pair]) for pair in self.summary.get("pairs", rates)]

    @property
    def share_done(self) -> float:
        """Gives the share of its steps that are done, 0 to 1."""
        if self.state == self.State.SUCCEEDED:
            return 1.0
        return min(self.step / self.total_steps, 1.0) if self.total_steps else 0.0

    @classmethod
    @transaction.atomic
    def launch(
        cls, project: Project, *, kind: str, config: dict[str, Any], by: User | None, seed: int = 0
    ) -> Run:
        """Queues work that belongs to no round. While the same is under way there is no second run:
        two operators who press a button at once get one."""
        lock_project(project)
        work = {"project": project, "round": None, "kind": kind, "config": config, "seed": seed}
        if same := cls.objects.not_over().filter(**work).first():
            return same
        run = cls.objects.create(**work, launched_by=by)
        enqueue_on_commit("train", "rlhf.jobs.train", run.pk)
        return run

    def _move(
        self, *, to: State, come_from: tuple[State, ...], token: int | None = None, **fields: Any
    ) -> bool:
        """With a token: the move of a worker, who must still hold the lease."""
        if to in self.ENDED:
            fields.setdefault("ended_at", Now())
        if to != self.State.RUNNING:
            fields |= {"leased_until": None, "taken_at": None}
            # Added up in the database, by its clock: workers' clocks may differ.
            fields["worked"] = F("worked") + Coalesce(Now() - F("taken_at"), timedelta())
        row = Run.objects.filter(pk=self.pk, state__in=come_from)
        if token is not None:
            row = row.filter(lease_token=token)
        # The state it comes from stands in the WHERE: of two who move it at once, one finds no
        # row.
        with transaction.atomic():
            moved = row.update(state=to, **fields) == 1
            if moved:
                self.refresh_from_db()
                self.tell()
        return moved

    def tell(self) -> None:
        """Announces the state it has now, in the transaction in which it came to it."""
        about, news = f"run {self.pk}", self._news()
        announce(self.project_id, Event.RUN, subject=about, data=self._told, news=news)

    def _told(self) -> dict[str, Any]:
        return {
            "run": self.pk,
            "round": self.round.number if self.round else None,
            "kind": self.kind,
            "state": self.state,
            "reason": self.reason,
        }

    def _news(self) -> News | None:
        """Tells operators how it came to a halt; a cancelled one they halted themselves."""
        said = {
            self.State.SUCCEEDED: "has ended",
            self.State.FAILED: "has failed",
            self.State.PAUSED: "is paused",
        }.get(self.State(self.state))
        if said is None:
            return None
        slug = self.project.slug
        what, link = str(self), reverse("policies_run", args=[slug, self.pk])
        if self.round:
            what = f"Round {self.round.number}: {self.get_kind_display()}"
            link = reverse("rounds_show", args=[slug, self.round.number])
        return News(f"{what} {said}{self.reason and f': {self.reason}'}", link)

    def place_in_queue(self) -> int | None:
        """Returns its place, 1 is next; None for a run whose turn in its own round has not come."""
        waiting = list(Run.objects.waiting().values_list("pk", flat=True))
        return waiting.index(self.pk) + 1 if self.pk in waiting else None

    def remember_log(self, text: str) -> None:
        """Keeps another text as the end of what its trainer said."""
        self.log_tail = text
        self.save(update_fields=["log_tail"])

    def prioritise(self, priority: int) -> bool:
        """Changes when its turn comes; False for a run that waits no longer, or has this
        priority."""
        waits = Run.objects.filter(pk=self.pk, state=self.State.QUEUED)
        return waits.exclude(priority=priority).update(priority=priority) == 1

    @transaction.atomic
    def request_cancel(self) -> bool:
        """Cancels a waiting run at once; asks a running one, which saves itself first. One that was
        paused keeps the reason: that is why somebody gave it up."""
        Run.objects.select_for_update(no_key=True).get(pk=self.pk)  # no worker leaves or comes now
        cancelled = self.State.CANCELLED
        if self._move(to=cancelled, come_from=(self.State.PAUSED,)):
            return True
        if self._move(to=cancelled, come_from=(self.State.QUEUED,), reason=CANCELLED_BY_HAND):
            return True
        return bool(
            Run.objects.filter(pk=self.pk, state=self.State.RUNNING).update(cancel_requested=True)
        )

    def resume(self, **train: Any) -> bool:
        """Puts a run that stopped early back in the queue; it goes on from its last checkpoint.
        `train`: fields of its recipe that have other values from there on."""
        fields: dict[str, Any] = {}
        if train:
            fields["config"] = {**self.config, "train": {**self.config["train"], **train}}
        return self._move(
            to=self.State.QUEUED,
            come_from=self.RESUMABLE,
            reason="",
            log_tail="",
            cancel_requested=False,
            attempts_without_progress=0,
            ended_at=None,
            **fields,
        )

    # What the worker who holds the lease decides.

    def succeed(self, *, token: int, summary: dict[str, Any], log_tail: str = "") -> bool:
        """Ends the run with what it reached. False: the lease is another worker's by now."""
        return self._move(
            to=self.State.SUCCEEDED,
            come_from=(self.State.RUNNING,),
            token=token,
            summary=summary,
            log_tail=log_tail,
        )

    def fail(self, *, token: int, reason: str, log_tail: str = "") -> bool:
        """Ends the run with the reason. False: the lease is another worker's by now."""
        return self._move(
            to=self.State.FAILED,
            come_from=(self.State.RUNNING,),
            token=token,
            reason=reason,
            log_tail=log_tail,
        )

    def cancel(self, *, token: int) -> bool:
        """Ends the run as its operator wished. False: the lease is another worker's by now."""
        return self._move(
            to=self.State.CANCELLED,
            come_from=(self.State.RUNNING,),
            token=token,
            reason=CANCELLED_BY_HAND,
        )

    def pause(self, *, token: int, reason: str, log_tail: str = "") -> bool:
        """Stops the run until somebody resumes it, with the reason. False: the lease is another
        worker's by now."""
        return self._move(
            to=self.State.PAUSED,
            come_from=(self.State.RUNNING,),
            token=token,
            reason=reason,
            log_tail=log_tail,
        )

    def retry(self, *, token: int, why: str, changes: dict[str, Any]) -> bool:
        """Puts the run back in the queue with other values in its recipe, and notes that."""
        train = self.config["train"]
        # What the operator chose is kept, through several retries, for the page and for a clone.
        replaced = {name: train[name] for name in changes if name in train}
        launched = {**replaced, **self.config.get("launched", {})}
        return self._move(
            to=self.State.QUEUED,
            come_from=(self.State.RUNNING,),
            token=token,
            config={**self.config, "train": {**train, **changes}, "launched": launched},
            retries=[*self.retries, {"why": why, "changes": changes}],
            attempts_without_progress=0,
        )

    @property
    def chosen(self) -> dict[str, Any]:
        """Its config as the operator launched it, whatever it was tried again with, under the names
        that settings have today."""
        config = dict(self.config)
        launched = config.pop("launched", {})
        if "train" in config:
            config["train"] = current_names(self.kind, {**config["train"], **launched})
        return config

    def release(self, *, token: int, **fields: Any) -> bool:
        """Gives the run back, so that another worker may take it at once."""
        return self._move(
            to=self.State.QUEUED, come_from=(self.State.RUNNING,), token=token, **fields
        )


class LeasedRow(models.Model):
    """A row that only the holder of the run's lease may write: a trigger compares the tokens."""

    lease_token = models.PositiveIntegerField(default=0)

    class Meta:
        abstract = True


def lock_project(project: Project) -> Project:
    """Serialises what must happen one at a time in a project, such as numbering rounds."""
    assert transaction.get_connection().in_atomic_block
    return Project.objects.select_for_update().get(pk=project.pk)
