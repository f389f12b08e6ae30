"""Prompts that labelers think of themselves, with what they would answer.

InstructGPT (section 3.2) began with such prompts, of three kinds: any task one can think of, an
instruction with several pairs of a query and its response, and a prompt for a given use case."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models.functions import Now

from annotate.labels.kinds.demonstration import Demonstration
from annotate.people.models import Membership, Project
from annotate.prompts.models import Messages, Prompt, content_hash, prompt_key
from annotate.work.assignments import Assignment
from annotate.work.tasks import Task

SOURCE = "labelers"
Asked = tuple[Messages, str]  # a prompt and the answer of its author, which may be empty


class PromptDraftQuerySet(models.QuerySet["PromptDraft"]):
    def of_project(self, project: Project) -> Self:
        return self.filter(membership__project=project)

    def left_before(self, moment: datetime) -> Self:
        return self.filter(saved_at__lt=moment)


class PromptDraft(models.Model):
    """A prompt that a labeler has begun, one of each kind: what the page's fields hold."""

    membership = models.ForeignKey(Membership, models.CASCADE, related_name="prompt_drafts")
    kind = models.CharField(max_length=10, choices=Prompt.Kind)
    values = models.JSONField(default=dict)
    saved_at = models.DateTimeField(auto_now=True)

    objects = PromptDraftQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["membership", "kind"], name="one_prompt_draft_a_kind")
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.membership}"

    @classmethod
    def begun(cls, membership: Membership, kind: str) -> PromptDraft | None:
        return cls.objects.filter(membership=membership, kind=kind).first()

    @classmethod
    def keep(
        cls, *, membership: Membership, kind: str, values: dict[str, str]
    ) -> PromptDraft | None:
        """Stores what has been typed; nothing, and there is no draft."""
        if not values:
            cls.objects.filter(membership=membership, kind=kind).delete()
            return None
        draft, _ = cls.objects.update_or_create(
            membership=membership, kind=kind, defaults={"values": values}
        )
        return draft


def few_shot(instruction: str, pairs: Sequence[tuple[str, str]]) -> Iterator[Asked]:
    """Each query asked after all the other pairs, and answered by its own response: K pairs make K
    demonstrations of one instruction (InstructGPT, appendix A.3)."""
    for number, (query, response) in enumerate(pairs):
        messages = [_turn("system", instruction)]
        for other, (asked, answered) in enumerate(pairs):
            if other != number:
                messages += [_turn("user", asked), _turn("assistant", answered)]
        yield [*messages, _turn("user", query)], response


def plain(text: str, answer: str) -> Iterator[Asked]:
    yield [_turn("user", text)], answer


@transaction.atomic
def write_prompts(
    *, membership: Any, kind: str, asked: Iterable[Asked], tags: Iterable[str] = ()
) -> list[Prompt]:
    """Stores what a labeler, a member from `with_guideline`, wrote: in use at once or after an
    operator's yes, as the project has it. Sent twice, it is there once.

    Raises ValidationError, and stores nothing, where somebody else asked the same."""
    project: Project = membership.project
    waits = project.own_prompts == Project.OwnPrompts.REVIEWED
    asked = list(asked)
    shared = content_hash([kind, asked]) if len(asked) > 1 else ""
    prompts = []
    for messages, answer in asked:
        prompt, is_new = Prompt.objects.get_or_create(
            project=project,
            content_hash=prompt_key(messages),
            defaults={
                "messages": messages,
                "kind": kind,
                "split_key": shared,
                "author": membership.user,
                "source": SOURCE,
                "tags": list(tags),
                "awaits_review": waits,
                "archived_at": Now() if waits else None,
            },
        )
        if not is_new and (prompt.author_id != membership.user_id or not prompt.kind):
            raise ValidationError(f"This prompt already exists: “{prompt}”. Write a different one.")
        if answer:
            _answer(prompt, membership, answer)
        prompts.append(prompt)
    PromptDraft.objects.filter(membership=membership, kind=kind).delete()
    return prompts


def _answer(prompt: Prompt, membership: Any, answer: str) -> None:
    """Stores the author's demonstration as the answer to a writing task of its own: so it is
    found in My work, can be edited there, and is reviewed like any other."""
    own = prompt.demonstrations.current().by(membership.user)
    given = set(own.values_list("text", flat=True))
    if answer in given:
        return
    if given:
        raise ValidationError(
            "You have already written this prompt with a different answer. Edit that one in My"
            " work."
        )
    task = Task.objects.create(
        project=membership.project, prompt=prompt, kind=Task.Kind.WRITE, batch=SOURCE
    )
    assignment = Assignment.objects.create(
        task=task,
        labeler=membership.user,
        leased_until=Now() + task.lease,
        guideline_version=membership.guideline_version,
    )
    Demonstration.record(assignment=assignment, text=answer)


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
