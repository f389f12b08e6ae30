"""Erasing a person: all that they typed goes, and what others have built upon becomes nobody's.

Their row stays as `erased-<id>`, without a name, so that what was made of their data is still known
to be stale. DATA_DIR/erasures.jsonl remembers who was erased, by number alone: a backup that is
older than an erasure brings the person back, and `replay` erases them again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.sessions.models import Session
from django.db import connection, models
from django.db.models import Q
from django.utils import timezone

from annotate.accounts.mails import Mail
from annotate.audit.recording import about, recorded
from annotate.chat.conversations import Conversation
from annotate.chat.feedback import Feedback
from annotate.chat.messages import Message
from annotate.exchange.uploads import Upload
from annotate.judges.questions import JudgeQuestion
from annotate.labelling.own_prompts import PromptDraft
from annotate.labels.kinds.demonstration import Demonstration
from annotate.labels.kinds.edit import Edit
from annotate.labels.kinds.ranking.answer import Ranking
from annotate.labels.kinds.talk.answer import Talk
from annotate.labels.kinds.talk.turns import Turn, TurnAnswer
from annotate.labels.reviews import Review
from annotate.people.invitations import Invitation, SignInLink
from annotate.people.models import Membership, Project, User
from annotate.people.tokens import ApiToken
from annotate.playground.grids import Grid
from annotate.prompts.flags import PromptFlag
from annotate.prompts.models import FROM_CHAT, TAKEN_BACK, Prompt, content_hash
from annotate.prompts.policies import Completion
from annotate.prompts.withdrawals import Withdrawal
from annotate.work.assignments import Assignment

GONE = "[erased]"


class CannotErase(Exception):
    """The sentence says what to do first."""


@dataclass
class Erased:
    """What an erasure met: the texts that are gone, the prompts that lost theirs, and what to tell
    whoever asked for it."""

    person: User
    projects: list[Project]
    names: set[str]
    texts: set[str] = field(default_factory=set)
    prompts: list[int] = field(default_factory=list)
    report: list[str] = field(default_factory=list)


# What other rooms erase, within the same transaction.
also: list[Callable[[Erased], None]] = []


@recorded()
def erase(person: User) -> list[str]:
    """Erases what a guest or labeler has typed, everywhere; returns what was made of their data, a
    line each. Raises CannotErase for who operates a project: its settings and decisions are not
    theirs alone."""
    person = User.objects.select_for_update().get(pk=person.pk)
    about(person)
    operated = person.memberships.filter(
        role=Membership.Role.OPERATOR, state=Membership.State.ACTIVE
    )
    if operated.exists():
        raise CannotErase("Operators cannot be erased. Hand your projects over and leave them.")
    names = {person.username, person.email, person.first_name, person.last_name}
    projects = list(Project.objects.filter(memberships__user=person).distinct())
    erased = Erased(person, projects, names=names | {person.get_full_name()} - {""})
    erased.prompts = list(_prompts_of(person).values_list("pk", flat=True))
    for project in projects:
        Withdrawal.withdraw(project, person=person, by=None)
    person.withdrawals.update(reason="")
    _erase_chats(erased)
    _erase_prompts(erased)
    _erase_labels(erased)
    _erase_notes(erased)
    _erase_account(erased)
    for each in also:
        each(erased)
    _remember(person)
    return erased.report


def replay() -> int:
    """Erases anew whom a restored backup has brought back; returns how many they were."""
    count = 0
    for pk, joined in _remembered():
        person = User.objects.filter(pk=pk).first()
        # A number may have been given to somebody else after an older backup was restored.
        if person and person.date_joined.isoformat() == joined and not is_erased(person):
            erase(person)
            count += 1
    return count


def is_erased(person: User) -> bool:
    return person.username == f"erased-{person.pk}"


def _prompts_of(person: User) -> models.QuerySet[Prompt]:
    """What they asked in a chat or through the API, and nobody else did, and what they wrote."""
    every = Prompt.objects.order_by()
    of_chats = every.filter(source__in=(FROM_CHAT, TAKEN_BACK))
    asked = of_chats.filter(completions__message__conversation__guest=person)
    # Of chats that they have deleted, only whose it was is known.
    deleted = of_chats.filter(split_key=content_hash(["guest", person.pk]))
    others = Conversation.objects.exclude(guest=person)
    shared = of_chats.filter(completions__message__conversation__in=others)
    theirs = Q(pk__in=asked.values("pk")) | Q(pk__in=deleted.values("pk"))
    written = Q(author=person) & ~Q(kind="")
    return every.filter(written | (theirs & ~Q(pk__in=shared.values("pk"))))


def _take(erased: Erased, rows: models.QuerySet[Any], *fields: str) -> None:
    """Notes the texts of these fields, which are about to go."""
    for row in rows.order_by().values_list(*fields):
        erased.texts |= {text for value in row for text in _texts(value)}


def _texts(value: Any) -> Iterator[str]:
    """All texts in a value of a field, which may be JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, Iterable):
        for inner in value:
            yield from _texts(inner)


def _erase_chats(erased: Erased) -> None:
    mine = Conversation.objects.filter(guest=erased.person)
    _take(erased, mine, "title", "metadata", "external_id")
    _take(erased, Message.objects.filter(conversation__in=mine), "text", "asked", "context")
    for conversation in mine:
        conversation.erase()
    thumbs = Feedback.objects.filter(user=erased.person)
    _take(erased, thumbs, "note", "wanted_answer")
    thumbs.update(note="", wanted_answer="", retracted_at=timezone.now())
    dismissed = Feedback.objects.filter(dismissed_by=erased.person)
    _take(erased, dismissed, "dismissed_why")
    dismissed.update(dismissed_why="")


def _erase_prompts(erased: Erased) -> None:
    """The prompts stay, out of use and without words: others may have answered them."""
    mine = Prompt.objects.filter(pk__in=erased.prompts)
    _take(erased, mine, "messages", "tags")
    for prompt in mine:
        _erase_from_grids(erased, prompt)
    said = Completion.objects.filter(prompt__in=erased.prompts)
    _take(erased, said, "text")
    mine.update(awaits_review=False)
    mine.take_back()
    for prompt in mine:
        split = prompt.split
        prompt.messages = [{"role": "user", "content": f"{GONE} {prompt.pk}"}]
        prompt.content_hash, prompt.tags = "", []
        prompt.save()
        Prompt.objects.filter(pk=prompt.pk).update(split=split)
    replies = JudgeQuestion.objects.filter(ranking__task__prompt__in=erased.prompts)
    _take(erased, replies, "reply")
    replies.update(reply="")
    for completion in said:
        completion.text, completion.passages = f"{GONE} {completion.pk}", []
        completion.save()


def _erase_from_grids(erased: Erased, prompt: Prompt) -> None:
    """The rows of others' grids that ask this prompt stay, without words."""
    asking = prompt.project.grids.filter(asked__contains=[{"messages": prompt.messages}])
    for grid in asking.select_for_update():
        rows = [i for i, row in enumerate(grid.asked) if row["messages"] == prompt.messages]
        for row in rows:
            messages = [{"role": "user", "content": f"{GONE} {prompt.pk}"}]
            grid.asked[row] = {"messages": messages, "then": [], "reference": ""}
        grid.save(update_fields=["asked"])
        said = grid.cells.filter(row__in=rows)
        _take(erased, said, "text", "between", "turns")
        said.update(text="", between=[], turns=[], passages=[])


def _erase_labels(erased: Erased) -> None:
    """Who ranked with them, reviewed them or was compared to them keeps what they did. The site
    itself may not change a label: PostgreSQL does, and the audit log says so."""
    _take(erased, Demonstration.objects.filter(labeler=erased.person), "text", "comment")
    _take(erased, Edit.objects.filter(labeler=erased.person), "diff")
    _take(erased, Ranking.objects.filter(labeler=erased.person), "comment", "reason")
    _take(erased, Talk.objects.filter(labeler=erased.person), "comment")
    _take(erased, Review.objects.filter(reviewer=erased.person), "comment")
    with connection.cursor() as cursor:
        cursor.execute("SELECT annotate_erase_labels(%s)", [erased.person.pk])
    turns = Turn.objects.filter(assignment__labeler=erased.person)
    _take(erased, turns, "said", "edited")
    answers = TurnAnswer.objects.filter(turn__in=turns)
    _take(erased, answers, "text", "context")
    answers.update(text="", context=[], passages=[])
    turns.update(said=GONE, edited="")
    assigned = Assignment.objects.filter(labeler=erased.person)
    _take(erased, assigned, "draft", "skip_note")
    assigned.update(draft={}, skip_note="")


def _erase_notes(erased: Erased) -> None:
    flags = PromptFlag.objects.filter(labeler=erased.person)
    _take(erased, flags, "note")
    flags.update(note="")
    drafts = PromptDraft.objects.filter(membership__user=erased.person)
    _take(erased, drafts, "values")
    drafts.delete()
    grids = Grid.objects.filter(author=erased.person)
    _take(erased, grids, "asked")
    grids.delete()
    Upload.objects.filter(by=erased.person).delete()


def _erase_account(erased: Erased) -> None:
    person = erased.person
    named = Q(name=person.username) | Q(by=person) | Q(accepted_by=person)
    Invitation.objects.filter(named).delete()
    SignInLink.objects.filter(user=person).delete()
    ApiToken.objects.filter(user=person).delete()
    person.sign_ins.all().delete()
    person.notices.all().delete()
    for owned in (EmailAddress, Authenticator, SocialAccount):
        owned.objects.filter(user=person).delete()
    Mail.objects.filter(Q(person=person) | Q(to__in=erased.names)).delete()
    for attempts in (AccessAttempt, AccessFailureLog, AccessLog):
        attempts.objects.filter(username__iexact=person.username).delete()
    for session in Session.objects.iterator():
        if session.get_decoded().get("_auth_user_id") == str(person.pk):
            session.delete()
    person.memberships.update(state=Membership.State.LEFT, languages=[], skills=[])
    User.objects.filter(pk=person.pk).update(
        username=f"erased-{person.pk}",
        first_name="",
        last_name="",
        email="",
        password=make_password(None),
        is_active=False,
    )


def _remember(person: User) -> None:
    line = {"person": person.pk, "joined": person.date_joined.isoformat()}
    line["erased"] = timezone.now().isoformat()
    with (settings.DATA_DIR / "erasures.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")
        log.flush()
        os.fsync(log.fileno())


def _remembered() -> list[tuple[int, str]]:
    log = settings.DATA_DIR / "erasures.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return [(line["person"], line["joined"]) for line in map(json.loads, lines)]
