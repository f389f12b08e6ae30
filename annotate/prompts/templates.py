"""Templates: the words around a prompt, under a name, in versions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models, transaction

from annotate.people.models import Project, User
from annotate.prompts.models import Messages, validate_prompt_format, validate_turns

WORDS = ("system_prompt", "few_shot", "prompt_format")


class PromptTemplateQuerySet(models.QuerySet["PromptTemplate"]):
    def named(self, name: str) -> PromptTemplateQuerySet:
        """All its versions, the newest first."""
        return self.filter(name=name).order_by("-version")

    def newest(self) -> PromptTemplateQuerySet:
        """The last version of each name, by name."""
        return self.order_by("name", "-version").distinct("name")

    def saying(self, said: Iterable[Any]) -> dict[int, PromptTemplate]:
        """Place → the newest version with the words of that policy or column, where one has."""
        wanted = list(said)
        known = list(self.order_by("pk")) if wanted else []
        found: dict[int, PromptTemplate] = {}
        for place, each in enumerate(wanted):
            for template in known:
                if template.says(each):
                    found[place] = template
        return found


class PromptTemplate(models.Model):
    """One version of a template. It never changes: what is saved under its name again is the next
    version, so that a policy keeps the words it was judged by."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="templates")
    name = models.CharField(max_length=60)
    version = models.PositiveSmallIntegerField(default=1, editable=False)
    system_prompt = models.TextField(blank=True)
    few_shot = models.JSONField(default=list, blank=True, validators=[validate_turns])
    prompt_format = models.TextField(blank=True, validators=[validate_prompt_format])
    note = models.CharField(
        max_length=200, blank=True, help_text="What is different in this version, and why."
    )
    author = models.ForeignKey(User, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = PromptTemplateQuerySet.as_manager()

    class Meta:
        ordering = ["name", "-version"]
        constraints = [
            models.UniqueConstraint(
                fields=["project", "name", "version"], name="one_template_a_name_and_version"
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"

    @classmethod
    @transaction.atomic
    def keep(
        cls,
        *,
        project: Project,
        name: str,
        author: User,
        system_prompt: str = "",
        few_shot: Messages | None = None,
        prompt_format: str = "",
        note: str = "",
    ) -> PromptTemplate:
        """Stores the next version under a name, or returns the last one where the words are the
        same. Raises ValidationError without a name or words."""
        name = " ".join(name.split())
        made = cls(
            project=project,
            name=name,
            author=author,
            system_prompt=system_prompt,
            few_shot=few_shot or [],
            prompt_format=prompt_format,
            note=note,
        )
        if not name:
            raise ValidationError("Give the template a name.")
        if not made.text:
            raise ValidationError("Write a system prompt, examples or a prompt format.")
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        last = project.templates.named(name).first()
        if last and last.says(made):
            return last
        made.version = last.version + 1 if last else 1
        made.full_clean()
        made.save()
        return made

    def says(self, other: Any) -> bool:
        """Whether a policy, column or version has these words."""
        return all(getattr(self, each) == getattr(other, each) for each in WORDS)

    @property
    def text(self) -> str:
        """All its words, as they are compared with another version's."""
        turns = [f"{turn['role'].capitalize()}: {turn['content']}" for turn in self.few_shot]
        parts = {
            "System prompt": self.system_prompt,
            "Examples": "\n".join(turns),
            "Prompt format": self.prompt_format,
        }
        return "\n\n".join(f"{name}\n{said}" for name, said in parts.items() if said)

    @property
    def versions(self) -> PromptTemplateQuerySet:
        """All of its name, the newest first."""
        return self.project.templates.named(self.name).select_related("author")

    @property
    def before(self) -> PromptTemplate | None:
        """The version before this one."""
        return self.versions.filter(version__lt=self.version).first()
