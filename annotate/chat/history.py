"""A guest's chats over time: by date, and one of them as a file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date, timedelta
from itertools import groupby

from django.utils import timezone
from django.utils.text import slugify

from annotate.chat.conversations import Conversation
from annotate.chat.messages import Message

WEEK = timedelta(days=7)


def by_date(chats: Iterable[Conversation]) -> list[tuple[str, list[Conversation]]]:
    """Groups chats, newest first, under Today, Yesterday, Previous 7 days, and months; by the
    calendar of whoever looks."""
    today = timezone.localdate()
    groups = groupby(chats, key=lambda each: _when(timezone.localdate(each.created_at), today))
    return [(name, list(group)) for name, group in groups]


def _when(day: date, today: date) -> str:
    if day >= today:
        return "Today"
    if day == today - timedelta(days=1):
        return "Yesterday"
    if day >= today - WEEK:
        return "Previous 7 days"
    return f"{day:%B}" if day.year == today.year else f"{day:%B %Y}"


def file_name(chat: Conversation, ending: str) -> str:
    return f"{slugify(str(chat))[:60] or 'chat'}.{ending}"


def as_markdown(chat: Conversation) -> str:
    """What the chat shows, to be read."""
    parts = [f"# {chat}"]
    for turn in chat.turns():
        parts += ["## You", turn.question.text]
        if turn.shown:
            parts += ["## Answer", turn.shown.text]
    return "\n\n".join(parts) + "\n"


def as_json(chat: Conversation) -> str:
    """All that was said, with what it answers or follows; `shown` is what the chat shows."""
    shown = {each for turn in chat.turns() for each in (turn.question, turn.shown)}
    said = [
        {
            "id": str(each.public_id),
            "parent": str(parent.public_id) if (parent := _parent(each)) else None,
            "role": each.role,
            "content": each.text,
            "state": each.state,
            "shown": each in shown,
            "created_at": each.created_at.isoformat(),
        }
        for each in chat.messages.select_related("answers", "follows")
    ]
    whole = {"title": str(chat), "created_at": chat.created_at.isoformat(), "messages": said}
    return json.dumps(whole, ensure_ascii=False, indent=2) + "\n"


def _parent(message: Message) -> Message | None:
    return message.answers if message.role == Message.Role.ASSISTANT else message.follows
