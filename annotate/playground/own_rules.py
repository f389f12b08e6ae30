"""Rules of prompting that operators add beside the built-in ones."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from annotate.people.models import Project, User
from annotate.prompts.models import validate_prompt_format, validate_turns
from feedback_site.answer_checks.check import CheckError
from feedback_site.answer_checks.written import read_checks

REFERENCE = " == "
MOST_TESTS = 50


def validate_checks(written: str) -> None:
    try:
        if not read_checks(written):
            raise ValidationError("Write a check that tells whether the rule was followed.")
    except CheckError as error:
        raise ValidationError(f"{error}.".replace("..", ".")) from None


def validate_tests(text: str) -> None:
    count = len(tests_of(text))
    if not 0 < count <= MOST_TESTS:
        raise ValidationError(f"Write 1 to {MOST_TESTS} test prompts, one per line, not {count}.")


def tests_of(text: str) -> dict[str, str]:
    """Prompt → the right answer, of lines “prompt == right answer”; where none is known, empty."""
    lines = (line.partition(REFERENCE) for line in text.splitlines() if line.strip())
    return {prompt.strip(): right.strip() for prompt, _, right in lines}


class OwnRuleQuerySet(models.QuerySet["OwnRule"]):
    def named(self, name: str) -> OwnRuleQuerySet:
        return self.filter(name=name)


class OwnRule(models.Model):
    """Grids that try it keep their own words, so it may be changed and removed."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="rules")
    name = models.CharField(max_length=60)
    meaning = models.CharField(max_length=200, blank=True)
    without = models.TextField("prompt format without it", validators=[validate_prompt_format])
    given = models.TextField("prompt format with it", validators=[validate_prompt_format])
    few_shot = models.JSONField(default=list, blank=True, validators=[validate_turns])
    checks = models.TextField(validators=[validate_checks])
    tests = models.TextField("test prompts", validators=[validate_tests])
    author = models.ForeignKey(User, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = OwnRuleQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="one_rule_a_name")]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def keep(cls, *, project: Project, name: str, author: User, **words: Any) -> OwnRule:
        """Adds a rule, or puts it in the place of the one of that name. Raises ValidationError."""
        made = project.rules.named(name).first() or cls(project=project, name=name)
        for field, value in {**words, "author": author}.items():
            setattr(made, field, value)
        made.full_clean()
        made.save()
        return made
