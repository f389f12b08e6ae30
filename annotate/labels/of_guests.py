"""What guests of the chat said, as labels: the answer they wanted corrects the one they got, and of
two drafts they prefer one.

Whatever a guest takes back or deletes is deleted here too, with what reviewers said of it."""

from __future__ import annotations

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from annotate.labels.kinds.edit import Edit
from annotate.labels.kinds.ranking.answer import Ranking
from annotate.labels.label import FROM_GUEST, Label
from annotate.labels.reviews import Review, relation_to
from annotate.people.models import User
from annotate.prompts.policies import Completion
from annotate.work.assignments import Assignment
from annotate.work.tasks import Task


@transaction.atomic
def correct(original: Completion, *, guest: User, text: str) -> Edit | None:
    """Has reviewers look at the answer that this guest wanted instead of `original`; a changed one
    takes the place of the one before. None where it says what the original says."""
    if text.strip() == original.text.strip():
        uncorrect(original, guest=guest)
        return None
    said = Edit.objects.current().of_guests().by(guest).filter(original=original).first()
    if said and said.text == text:
        return said
    edit = Edit(original=original, text=text)
    return edit.record_as_guests(_place_of(original, guest))


def uncorrect(original: Completion, *, guest: User) -> None:
    """Takes back what `correct` made of this guest's words."""
    _forget(
        Q(original=original, labeler=guest), Q(pk__in=[]), Completion.objects.filter(pk=original.pk)
    )


def unprefer(ranking: Ranking) -> None:
    """Takes back what `prefer` made."""
    _delete([ranking])


def prefer(
    completions: tuple[Completion, Completion], *, guest: User, places: tuple[int, int]
) -> Ranking | None:
    """Ranks two completions of a prompt, in the order in which this guest saw them. None where they
    say the same: nothing is preferred."""
    first, second = completions
    if first.text_hash == second.text_hash:
        return None
    return Ranking.of_guest(
        prompt=first.prompt,
        guest=guest,
        places=dict(zip((first.pk, second.pk), places, strict=True)),
        shown_order=[first.pk, second.pk],
    )


def forget(completions: QuerySet[Completion]) -> None:
    """Deletes all that guests said of these completions."""
    _forget(Q(original__in=completions), Q(placements__completion__in=completions), completions)


@transaction.atomic
def _forget(edits: Q, rankings: Q, completions: QuerySet[Completion]) -> None:
    _delete([*Edit.objects.of_guests().filter(edits)])
    _delete([*Ranking.objects.of_guests().filter(rankings).distinct()])
    places = Task.objects.of_batch(FROM_GUEST).filter(completions__in=completions)
    # What a reviewer has written instead stays, and the task with it.
    kept = places.exclude(reviews__assignments__demonstrations=None)
    empty = places.filter(assignments__demonstrations=None).exclude(pk__in=kept.values("pk"))
    Task.objects.filter(pk__in=list(empty.values_list("pk", flat=True))).delete()


def _delete(labels: list[Label]) -> None:
    for label in sorted(labels, key=lambda each: -each.revision_no):
        Review.objects.filter(**{relation_to(type(label)): label.pk}).delete()
        label.delete()


def _place_of(original: Completion, guest: User) -> Assignment:
    """Where the words of this guest are kept: a task that is handed out to nobody else, so that
    what answers it is reviewed like all answers."""
    now = timezone.now()
    prompt, asked = original.prompt, Task.objects.of_batch(FROM_GUEST).filter(completions=original)
    task = asked.filter(assignments__labeler=guest).first()
    if task is None:
        task = Task.objects.create(
            project_id=prompt.project_id,
            prompt=prompt,
            kind=Task.Kind.EDIT,
            batch=FROM_GUEST,
            closed_at=now,
        )
        task.completions.add(original)
    place, _ = Assignment.objects.get_or_create(
        task=task,
        labeler=guest,
        defaults={
            "state": Assignment.State.SUBMITTED,
            "leased_until": now,
            "ended_at": now,
            "shown_order": [original.pk],
        },
    )
    return place
