"""Who answers prompts (Policy), and what was answered (Completion)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import Q

from annotate.connections.models import Connection
from annotate.ids import id_in
from annotate.people.models import Project
from annotate.prompts.models import (
    PLACE_OF_PROMPT,
    Messages,
    Prompt,
    PromptQuerySet,
    content_hash,
    validate_prompt_format,
    validate_turns,
)
from annotate.prompts.passages import Read, block
from annotate.prompts.templates import PromptTemplate

MOST_PASSAGES = 20  # that a policy reads


class PolicyQuerySet(models.QuerySet["Policy"]):
    def sampleable(self) -> PolicyQuerySet:
        """Policies we hold the weights of, or can call."""
        return self.exclude(folder="", endpoint="", model_name="")

    def askable(self) -> PolicyQuerySet:
        """Those that products outside may ask: all that can answer and were not rejected."""
        return self.sampleable().exclude(state=Policy.State.REJECTED).select_related("project")

    def with_weights(self) -> PolicyQuerySet:
        """Policies whose model folder we hold: they can be trained on and sampled in a job."""
        return self.exclude(folder="")

    def live(self) -> PolicyQuerySet:
        return self.filter(state=Policy.State.LIVE)

    def challenger(self) -> PolicyQuerySet:
        return self.filter(state=Policy.State.CHALLENGER)

    def with_thumbs(self) -> PolicyQuerySet:
        """Adds `ups` and `downs`, what guests think of the answers each gave them."""
        up = Q(messages__feedback__thumb_up=True, messages__feedback__retracted_at=None)
        down = Q(messages__feedback__thumb_up=False, messages__feedback__retracted_at=None)
        return self.annotate(
            ups=models.Count("messages__feedback", filter=up, distinct=True),
            downs=models.Count("messages__feedback", filter=down, distinct=True),
        )

    def matching(self, words: str) -> PolicyQuerySet:
        """Keeps those whose name contains all of these words; the newest first."""
        found = self.order_by("-pk")
        for word in words.split():
            found = found.filter(name__icontains=word)
        return found

    def named(self, name: str) -> PolicyQuerySet:
        return self.filter(name=name)

    def called(self, names: Iterable[str]) -> PolicyQuerySet:
        """Those with one of these names."""
        return self.filter(name__in=list(names))

    def said_by(self, project: Project, name: str) -> Policy:
        """The policy of this name; one we know only by its words is noted as external."""
        policy, _ = self.get_or_create(
            project=project, name=name, defaults={"origin": Policy.Origin.EXTERNAL}
        )
        return policy


class Policy(models.Model):
    """Whatever answers prompts: weights or an endpoint, a prompt template, sampling parameters."""

    class State(models.TextChoices):
        CANDIDATE = "candidate"
        CHALLENGER = "challenger"
        LIVE = "live"
        RETIRED = "retired"
        REJECTED = "rejected"

    class Origin(models.TextChoices):
        BASE = "base", "base model"
        PROMPTED = "prompted"
        TRAINED = "trained"
        EXTERNAL = "external", "imported outputs"

    project = models.ForeignKey(Project, models.CASCADE, related_name="policies")
    name = models.CharField(max_length=100)
    description = models.CharField(max_length=300, blank=True)
    state = models.CharField(max_length=10, choices=State, default=State.CANDIDATE)
    origin = models.CharField(max_length=10, choices=Origin)
    parent = models.ForeignKey("self", models.PROTECT, null=True, related_name="children")
    folder = models.CharField(
        max_length=300, blank=True, help_text="Model folder, relative to DATA_DIR."
    )
    endpoint = models.URLField(blank=True, help_text="An OpenAI-compatible server of its own.")
    connection = models.ForeignKey(
        Connection, models.PROTECT, null=True, blank=True, related_name="policies"
    )
    model_name = models.CharField(max_length=200, blank=True)
    system_prompt = models.TextField(blank=True)
    few_shot = models.JSONField(default=list, blank=True, validators=[validate_turns])
    prompt_format = models.TextField(
        blank=True,
        validators=[validate_prompt_format],
        help_text="What is sent instead of the last user message, with {prompt} in its place.",
    )
    temperature = models.FloatField(
        default=0.7, validators=[MinValueValidator(0.0), MaxValueValidator(2.0)]
    )
    max_new_tokens = models.PositiveIntegerField(
        default=256, validators=[MinValueValidator(1), MaxValueValidator(4096)]
    )
    passages_read = models.PositiveSmallIntegerField(
        "passages it reads",
        default=0,
        db_default=0,
        validators=[MaxValueValidator(MOST_PASSAGES)],
        help_text="Of the project's documents, looked up for each question. 0: none.",
    )
    template = models.ForeignKey(
        PromptTemplate,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="policies",
        help_text="The version that its words are.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = PolicyQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "policies"
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="one_policy_a_name"),
            models.UniqueConstraint(
                fields=["project"], condition=Q(state="live"), name="one_live_policy"
            ),
            models.UniqueConstraint(
                fields=["project"], condition=Q(state="challenger"), name="one_challenger"
            ),
            models.CheckConstraint(
                condition=~Q(folder__regex=r"^/|(^|/)\.\.(/|$)"),
                name="model_folders_lie_in_data_dir",
                violation_error_message="A model folder lies in DATA_DIR: name it from there.",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_elsewhere(self) -> bool:
        """Whether a server outside has its model."""
        return bool(self.endpoint or self.connection_id)

    @property
    def can_be_asked(self) -> bool:
        """Whether there are weights or a server that would answer."""
        return bool(self.folder or self.is_elsewhere or self.model_name)

    def has_model_of(self, other: Policy) -> bool:
        """Whether both speak with the same model, whatever the words around the prompt."""
        model = ("folder", "endpoint", "connection_id", "model_name")
        return all(getattr(self, each) == getattr(other, each) for each in model)

    @property
    def provider(self) -> str:
        """Who runs its model; empty where we do."""
        return str(self.connection or self.endpoint)

    @property
    def template_hash(self) -> str:
        parts = [self.system_prompt, self.few_shot, self.prompt_format, self.passages_read]
        return content_hash(parts[: 4 if self.passages_read else 3 if self.prompt_format else 2])

    def messages_for(self, conversation: Messages, passages: Sequence[Read] = ()) -> Messages:
        """The whole context sent to the model: system prompt, few-shot turns, the conversation,
        the last message of which is put into the policy's prompt format, behind the passages.

        A conversation with a system message of its own has it joined to the policy's, because
        many chat templates take one only, and only at the start."""
        own = [turn["content"] for turn in conversation if turn["role"] == "system"]
        instructions = "\n\n".join(filter(None, [self.system_prompt, *own]))
        system = [{"role": "system", "content": instructions}] if instructions else []
        rest = [turn for turn in conversation if turn["role"] != "system"]
        if self.prompt_format and rest[-1]["role"] == "user":
            asked = self.prompt_format.replace(PLACE_OF_PROMPT, rest[-1]["content"])
            rest[-1] = {**rest[-1], "content": asked}
        if passages:
            rest[-1] = {**rest[-1], "content": block(passages) + rest[-1]["content"]}
        return [*system, *self.few_shot, *rest]

    def go_challenge(self) -> Policy | None:
        """Makes this the project's challenger, and returns the one it takes over from."""
        return self._take_over(self.State.CHALLENGER, leaving=self.State.CANDIDATE)

    def go_live(self) -> Policy | None:
        """Makes this the project's live policy, and returns the one it takes over from."""
        return self._take_over(self.State.LIVE, leaving=self.State.RETIRED)

    @transaction.atomic
    def _take_over(self, state: State, *, leaving: State) -> Policy | None:
        """A state that one policy of a project is in; `leaving`: what the one before it becomes."""
        Project.objects.select_for_update().get(pk=self.project_id)
        previous = Policy.objects.filter(project=self.project_id, state=state).first()
        if previous == self:
            return None
        if previous:
            Policy.objects.filter(pk=previous.pk).update(state=leaving)
        Policy.objects.filter(pk=self.pk).update(state=state)
        self.refresh_from_db()
        return previous


class CompletionQuerySet(models.QuerySet["Completion"]):
    def chosen(self, ids: Iterable[str]) -> CompletionQuerySet:
        """Those of these ids."""
        return self.filter(pk__in={id_in(each) for each in ids} - {None})

    def with_thumbs(self) -> CompletionQuerySet:
        """Adds `ups` and `downs`, of imported thumbs and of those given in the chat."""

        def count(thumb_up: bool) -> models.expressions.Combinable:
            return sum(
                (
                    models.Count(
                        road,
                        distinct=True,
                        filter=Q((f"{road}__thumb_up", thumb_up), (f"{road}__retracted_at", None)),
                    )
                    for road in ("feedback", "message__feedback")
                ),
                start=models.Value(0),
            )

        return self.select_related("policy").annotate(ups=count(True), downs=count(False))

    def of_prompts(
        self, prompts: PromptQuerySet, *, policies_since: datetime | None = None
    ) -> CompletionQuerySet:
        """With a moment: of policies made since."""
        said = self.filter(prompt__in=prompts.order_by().values("pk"))
        return said.filter(policy__created_at__gte=policies_since) if policies_since else said

    def sampled_by(self, run_id: int) -> CompletionQuerySet:
        """Those that a sampling or an evaluation wrote."""
        return self.filter(sampling__run=run_id)

    def speakers(self) -> list[Policy]:
        """Who said them, in the order in which they spoke first."""
        first = self.order_by().values("policy").annotate(first=models.Min("pk"))
        order = list(first.order_by("first").values_list("policy", flat=True))
        policies = Policy.objects.in_bulk(order)
        return [policies[each] for each in order]

    def mean_lengths(self, policies: list[Policy], *, splits: Iterable[str]) -> dict[int, float]:
        """Characters an answer of each policy has, over the prompts that all of them answered."""
        said = self.filter(policy__in=policies, prompt__split__in=splits)
        met = said.order_by().values("prompt").annotate(n=models.Count("policy", distinct=True))
        rows = said.filter(prompt__in=met.filter(n=len(policies)).values("prompt")).order_by()
        means = rows.values("policy").annotate(mean=models.Avg(models.functions.Length("text")))
        return dict(means.values_list("policy", "mean"))

    def ids_by_content(self, prompt_ids: Iterable[int]) -> dict[tuple[int, int, str], int]:
        """(prompt, policy, text) → the oldest completion that says exactly this."""
        rows = self.filter(prompt__in=list(prompt_ids)).order_by("-pk")
        said = rows.values_list("prompt", "policy", "text", "pk")
        return {(prompt, policy, text): pk for prompt, policy, text, pk in said}


class Completion(models.Model):
    class Source(models.TextChoices):
        SAMPLED = "sampled"
        IMPORTED = "imported"
        CHAT = "chat"
        EVALUATION = "evaluation"

    prompt = models.ForeignKey(Prompt, models.CASCADE, related_name="completions")
    policy = models.ForeignKey(Policy, models.PROTECT, related_name="completions")
    text = models.TextField()
    text_hash = models.CharField(max_length=64, editable=False)
    source = models.CharField(max_length=10, choices=Source)
    seed = models.BigIntegerField(null=True)
    sampling = models.JSONField(default=dict, help_text="Parameters the text was sampled with.")
    template_hash = models.CharField(max_length=64, blank=True)
    finish_reason = models.CharField(max_length=20, blank=True)
    passages = models.JSONField(
        default=list,
        db_default=models.Value([], models.JSONField()),
        help_text="What it was given to read; see prompts.passages.",
    )
    score = models.FloatField(null=True, help_text="What the reward model of its run said of it.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = CompletionQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["prompt", "text_hash"])]

    def __str__(self) -> str:
        return self.text[:60]

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.derive()
        super().save(*args, **kwargs)

    def derive(self) -> Completion:
        """Sets what follows from the text. `bulk_create` skips save(): call this before it."""
        self.text_hash = self.hash_of(self.text)
        return self

    @staticmethod
    def hash_of(text: str) -> str:
        return content_hash(text.strip())
