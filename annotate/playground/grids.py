"""Prompts × ways of prompting, side by side: where a policy made of words alone is found."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models, transaction

from annotate.people.models import Project, User
from annotate.playground.rows import Row
from annotate.prompts.models import Messages, Prompt, PromptQuerySet
from annotate.prompts.policies import Policy
from annotate.prompts.templates import PromptTemplate
from feedback_site.answer_checks.check import Check
from feedback_site.answer_checks.written import read_checks
from feedback_site.bell import enqueue_on_commit

MOST_PROMPTS, MOST_COLUMNS, MOST_SAMPLES, MOST_CELLS = 200, 10, 10, 4000
MOST_OF_LABELERS = 200  # cells: somebody pays for the answers
MOST_TURNS = 20  # of a policy that plays the user


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
    passages_read: int = 0


class GridQuerySet(models.QuerySet["Grid"]):
    def by_hand(self) -> GridQuerySet:
        """Without those that try a rule."""
        return self.filter(rule="")

    def of_author(self, user: User) -> GridQuerySet:
        return self.filter(author=user)

    def trying_rules(self) -> GridQuerySet:
        return self.exclude(rule="")


class Grid(models.Model):
    """What was asked of which columns. It stays as it was run; a change is a new grid."""

    class Partner(models.TextChoices):
        """Who says the user's turns after the model's answers."""

        SCRIPT = "script", "as written in the rows"
        HANGMAN = "hangman", "Hangman: each prompt is a word to be found"
        POLICY = "policy", "a policy that plays the user"

    project = models.ForeignKey(Project, models.CASCADE, related_name="grids")
    author = models.ForeignKey(User, models.PROTECT, related_name="+")
    asked = models.JSONField(help_text="See Row.")
    columns = models.JSONField(help_text="See Column.")
    checks = models.TextField(blank=True, help_text="See feedback_site.answer_checks.")
    samples = models.PositiveSmallIntegerField(default=1, help_text="Answers in each cell.")
    seed = models.PositiveIntegerField(default=0, help_text="Of the first sample; then one more.")
    partner = models.CharField(max_length=10, choices=Partner, default=Partner.SCRIPT)
    player = models.ForeignKey(
        Policy, models.PROTECT, null=True, related_name="+", help_text="That plays the user."
    )
    turns = models.PositiveSmallIntegerField(default=0, help_text="Of the player, at most.")
    rule = models.CharField(max_length=60, blank=True, help_text="That is tried; see rules.RULES.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = GridQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.rule or self.row(0).text[:60]

    @classmethod
    @transaction.atomic
    def lay_out(
        cls,
        *,
        project: Project,
        author: User,
        prompts: Iterable[str | Row],
        columns: list[Column],
        checks: str = "",
        samples: int = 1,
        seed: int = 0,
        rule: str = "",
        partner: str = Partner.SCRIPT,
        player: Policy | None = None,
        turns: int = 0,
        most: int = MOST_CELLS,
    ) -> Grid:
        """Stores a grid of prompts × columns × samples, whose cells wait for a worker. Raises
        ValidationError for more than a grid may have, which is `most` cells."""
        rows = [each if isinstance(each, Row) else Row.saying(each) for each in prompts]
        count = len(rows) * len(columns) * samples
        if len(rows) > MOST_PROMPTS:
            raise ValidationError(f"That is {len(rows)} prompts. Use at most {MOST_PROMPTS}.")
        if count > most:
            raise ValidationError(
                f"That is {count:,} answers. Use fewer prompts, columns or samples: "
                f"at most {most:,} together."
            )
        grid = cls.objects.create(
            project=project,
            author=author,
            asked=[asdict(row) for row in rows],
            columns=[asdict(column) for column in columns],
            checks=checks,
            samples=samples,
            seed=seed,
            rule=rule,
            partner=partner,
            player=player,
            turns=turns,
        )
        grid.cells.model.objects.bulk_create(
            grid.cells.model(grid=grid, row=row, column=column, sample=sample)
            for row in range(len(rows))
            for column in range(len(columns))
            for sample in range(samples)
        )
        grid.ring()
        return grid

    def ring(self) -> None:
        """Wakes a worker for the cells that wait."""
        enqueue_on_commit("label", "annotate.jobs.ask_cells", self.pk)

    @property
    def rows(self) -> list[Row]:
        return [Row(**each) for each in self.asked]

    def row(self, number: int) -> Row:
        """The row of that number, counted from 0."""
        return Row(**self.asked[number])

    def column(self, number: int) -> Column:
        """The column of that number, counted from 0."""
        return Column(**self.columns[number])

    def named_checks(self) -> dict[str, Check]:
        """The checks of its answers, by the names that the page shows."""
        return {each.name: each.check for each in read_checks(self.checks)}

    def written_checks(self) -> dict[str, str]:
        """The same names → the checks as they are written, with their settings."""
        return {
            name: f"{check.name}({check.given})" if check.given else check.name
            for name, check in self.named_checks().items()
        }

    def names(self) -> list[str]:
        """What the columns are called: by number and, where it is one, by policy."""
        return [
            f"Column {number}: {policy.name}" if policy.name else f"Column {number}"
            for number, policy in enumerate(self.policies(), start=1)
        ]

    def policy(self, number: int) -> Policy:
        """The policy that a column is; see `policies`."""
        return self.policies()[number]

    def policies(self) -> list[Policy]:
        """What each column is: the policy of its name, or else one that is not saved yet."""
        columns = [Column(**each) for each in self.columns]
        ids, names = {each.weights for each in columns}, {each.name for each in columns}
        speaking = self.project.policies.select_related("connection").in_bulk(ids)
        saved = {each.name: each for each in self.project.policies.filter(name__in=names)}
        return [
            self._policy(column, speaking[column.weights], saved.get(column.name))
            for column in columns
        ]

    def _policy(self, column: Column, weights: Policy, saved: Policy | None) -> Policy:
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
        for known in (weights, saved):
            if known and _same_words(known, candidate):
                return known
        return candidate

    def templates(self) -> dict[int, PromptTemplate]:
        """Number of a column → the version of a template whose words it has."""
        return self.project.templates.saying(Column(**each) for each in self.columns)

    def has_words(self, number: int) -> bool:
        """Whether the column says anything around the prompt."""
        column = self.column(number)
        return bool(column.system_prompt or column.few_shot or column.prompt_format)

    def keep_template(self, number: int, *, name: str, author: User, note: str) -> PromptTemplate:
        """Keeps the words of a column as a template. Raises ValidationError without any."""
        column = self.column(number)
        return PromptTemplate.keep(
            project=self.project,
            name=name,
            author=author,
            note=note,
            system_prompt=column.system_prompt,
            few_shot=column.few_shot,
            prompt_format=column.prompt_format,
        )

    def save_column(self, number: int, *, name: str) -> Policy:
        """Makes a policy of a column. Raises ValidationError without a free name."""
        policy = self.policy(number)
        if policy.pk:
            return policy
        policy.name = name.strip()
        if not policy.name:
            raise ValidationError("Give the policy a name.")
        if self.project.policies.filter(name=policy.name).exists():
            raise ValidationError(
                f"There is a policy “{policy.name}” already: choose another name."
            )
        policy.template = self.project.templates.saying([policy]).get(0)
        policy.full_clean()
        policy.save()
        self.columns[number]["name"] = policy.name
        self.save(update_fields=["columns"])
        return policy

    @transaction.atomic
    def store_completions(self, rows: Collection[int] | None = None) -> list[tuple[int, list[int]]]:
        """The answers to these rows, or to all, as completions of the project's prompts, so that
        people can judge them; of several samples the first.

        Returns (prompt, its different completions) of every prompt with two or more. Raises
        ValidationError when there is none, or while a column is not a policy. A row with turns of
        the user after the model's is left out: its answers belong to different conversations."""
        policies = self.policies()
        unsaved = [str(i) for i, policy in enumerate(policies, start=1) if not policy.pk]
        if unsaved:
            raise ValidationError(
                f"Save every column as a policy first; not saved yet: {', '.join(unsaved)}."
            )
        shown = []
        answered: dict[int, dict[str, Any]] = {}
        for cell in self.cells.answered().first_samples().order_by("pk"):
            if cell.text.strip():  # of equal ones the first, so that it stays the same
                answered.setdefault(cell.row, {}).setdefault(cell.text.strip(), cell)
        for number in self._numbers(rows):
            different = answered.get(number, {})
            if len(different) > 1 and not self._goes_on(number):
                prompt = self._prompt(number)
                said = [cell.as_completion(prompt, policies) for cell in different.values()]
                shown.append((prompt.pk, [completion.pk for completion in said]))
        if not shown:
            raise ValidationError("No prompt has two different answers yet.")
        return shown

    @transaction.atomic
    def store_prompts(self, rows: Collection[int] | None = None) -> PromptQuerySet:
        """These rows, or all, as prompts of the project; what it has already is not stored twice.
        Of a row of several turns it is the conversation up to the first answer."""
        ids = [self._prompt(number).pk for number in self._numbers(rows)]
        return self.project.prompts.active().filter(pk__in=ids)

    def _numbers(self, rows: Collection[int] | None) -> list[int]:
        return [n for n in range(len(self.asked)) if rows is None or n in rows]

    def _goes_on(self, row: int) -> bool:
        """Whether the user says more after the model's first answer."""
        return self.partner != Grid.Partner.SCRIPT or bool(self.row(row).then)

    def _prompt(self, row: int) -> Prompt:
        asked = self.row(row)
        prompt = Prompt(
            project=self.project,
            messages=asked.messages,
            reference="" if self._goes_on(row) else asked.reference,
            source="playground",
            author=self.author,
        ).derive()
        known = self.project.prompts.filter(content_hash=prompt.content_hash).first()
        if known:
            return known
        prompt.save()
        return prompt


WORDS = (
    *("system_prompt", "few_shot", "prompt_format", "temperature", "max_new_tokens"),
    "passages_read",
)


def _same_words(one: Policy, other: Policy) -> bool:
    return one.has_model_of(other) and all(
        getattr(one, each) == getattr(other, each) for each in WORDS
    )
