"""Prompts × ways of prompting, side by side: where a policy made of words alone is found."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from django.core.exceptions import ValidationError
from django.db import models, transaction

from annotate.people.models import Project, User
from annotate.prompts.models import Messages, Prompt
from annotate.prompts.policies import Completion, Policy

MOST_PROMPTS, MOST_COLUMNS = 12, 4


@dataclass(frozen=True)
class Column:
    """A way of prompting: the weights (or server) of a policy, and the words around the prompt."""

    weights: int  # the id of the policy whose model speaks
    name: str = ""
    system_prompt: str = ""
    few_shot: Messages = field(default_factory=list)
    prompt_format: str = ""
    temperature: float = 0.7
    max_new_tokens: int = 256


class Grid(models.Model):
    """What was asked of which columns. It stays as it was run; a change is a new grid."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="grids")
    author = models.ForeignKey(User, models.PROTECT, related_name="+")
    prompts = models.JSONField(help_text="One text a row.")
    columns = models.JSONField(help_text="See Column.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.prompts[0][:60]

    @classmethod
    def lay_out(
        cls, *, project: Project, author: User, prompts: list[str], columns: list[Column]
    ) -> Grid:
        """Stores a grid of prompts × columns, with no answers yet."""
        return cls.objects.create(
            project=project,
            author=author,
            prompts=prompts,
            columns=[asdict(column) for column in columns],
        )

    def column(self, number: int) -> Column:
        """The column of that number, counted from 0."""
        return Column(**self.columns[number])

    def policy(self, number: int) -> Policy:
        """The policy that a column is: the one of its name, or else one that is not saved yet."""
        column = self.column(number)
        weights = self.project.policies.select_related("connection").get(pk=column.weights)
        words = asdict(column)
        del words["weights"]
        candidate = Policy(
            project=self.project,
            origin=Policy.Origin.PROMPTED,
            parent=weights,
            folder=weights.folder,
            endpoint=weights.endpoint,
            connection=weights.connection,
            model_name=weights.model_name,
            **words,
        )
        for known in (weights, *self.project.policies.filter(name=column.name)):
            if _same_words(known, candidate):
                return known
        return candidate

    def messages(self, row: int) -> Messages:
        """The conversation that a row asks, its prompt alone."""
        return [{"role": "user", "content": self.prompts[row]}]

    def save_column(self, number: int, *, name: str) -> Policy:
        """Makes a policy of a column. Raises ValidationError without a free name."""
        policy = self.policy(number)
        if policy.pk:
            return policy
        policy.name = name.strip()
        if not policy.name:
            raise ValidationError("Give the policy a name.")
        policy.full_clean()
        policy.save()
        self.columns[number]["name"] = policy.name
        self.save(update_fields=["columns"])
        return policy

    def answer(self, row: int, column: int, *, text: str, finish_reason: str) -> Cell:
        """Stores what a column answered to a row, in place of what it answered before."""
        cell, _ = self.cells.update_or_create(
            row=row, column=column, defaults={"text": text, "finish_reason": finish_reason}
        )
        return cell

    @transaction.atomic
    def store_completions(self) -> list[tuple[int, list[int]]]:
        """The answers as completions of the project's prompts, so that people can judge them.

        Returns (prompt, its different completions) of every prompt with two or more. Raises
        ValidationError when there is none, or while a column is not a policy."""
        policies = [self.policy(number) for number in range(len(self.columns))]
        unsaved = [str(i) for i, policy in enumerate(policies, start=1) if not policy.pk]
        if unsaved:
            raise ValidationError(
                f"Save every column as a policy first; not saved yet: {', '.join(unsaved)}."
            )
        shown = []
        for row in range(len(self.prompts)):
            different: dict[str, Cell] = {}
            for cell in self.cells.all():  # of equal ones the first, so that it stays the same
                if cell.row == row and cell.text.strip():
                    different.setdefault(cell.text.strip(), cell)
            if len(different) > 1:
                prompt = self._prompt(row)
                said = [cell.as_completion(prompt, policies) for cell in different.values()]
                shown.append((prompt.pk, [completion.pk for completion in said]))
        if not shown:
            raise ValidationError("No prompt has two different answers yet.")
        return shown

    def _prompt(self, row: int) -> Prompt:
        prompt = Prompt(
            project=self.project,
            messages=self.messages(row),
            source="playground",
            author=self.author,
        ).derive()
        known = self.project.prompts.filter(content_hash=prompt.content_hash).first()
        if known:
            return known
        prompt.save()
        return prompt


class Cell(models.Model):
    grid = models.ForeignKey(Grid, models.CASCADE, related_name="cells")
    row = models.PositiveSmallIntegerField()
    column = models.PositiveSmallIntegerField()
    text = models.TextField(blank=True)
    finish_reason = models.CharField(max_length=20, blank=True)

    class Meta:
        ordering = ["row", "column"]
        constraints = [
            models.UniqueConstraint(fields=["grid", "row", "column"], name="one_answer_a_cell")
        ]

    def __str__(self) -> str:
        return self.text[:60]

    def as_completion(self, prompt: Prompt, policies: list[Policy]) -> Completion:
        """The same one however often it is asked for."""
        policy = policies[self.column]
        outside = policy.is_elsewhere
        said = {
            "prompt": prompt,
            "policy": policy,
            "text": self.text,
            "source": Completion.Source.SAMPLED,
            "sampling": {
                "grid": self.grid_id,
                "temperature": policy.temperature,
                "max_new_tokens": policy.max_new_tokens,
                **({"provider": policy.provider, "model": policy.model_name} if outside else {}),
            },
            "template_hash": policy.template_hash,
            "finish_reason": self.finish_reason,
        }
        known = Completion.objects.filter(**said).first()
        return known or Completion.objects.create(**said)


WORDS = ("system_prompt", "few_shot", "prompt_format", "temperature", "max_new_tokens")


def _same_words(one: Policy, other: Policy) -> bool:
    model = ("folder", "endpoint", "connection_id", "model_name")
    return all(getattr(one, each) == getattr(other, each) for each in (*model, *WORDS))
