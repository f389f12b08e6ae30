"""How the tests talk in the chat."""

import re
from collections.abc import Callable
from typing import Any

from django.test import Client
from django.urls import reverse

from annotate.chat import streaming as chat
from annotate.models import Conversation, Message, User

Browse = Callable[[User], Client]
HTMX = {"HX-Request": "true"}
QUESTION = "How do I boil an egg?"


def ask(client: Client, text: str = QUESTION, **fields: Any) -> Message:
    """A new chat, without JavaScript: the answer comes whole."""
    reply = client.post("/p/cooking/chat/new/", {"text": text, "improves_model": "on", **fields})
    assert reply.status_code == 302, reply.content.decode()
    return Message.objects.get(
        role="assistant", is_blind=False, conversation=id_in(reply["Location"])
    )


def go_on(client: Client, conversation: Conversation, text: str) -> Message:
    client.post(reverse("chat_send", args=["cooking", conversation.pk]), {"text": text})
    return conversation.messages.order_by("-id").first()


def pending(gus: User, text: str = QUESTION) -> Message:
    """An answer nobody has begun to write, as the page asks for it."""
    answer = Conversation.start(project=gus.memberships.get().project, guest=gus, text=text)
    return Message.objects.answers_in(Conversation.objects.all()).get(pk=answer.pk)


def page_of(client: Client, conversation: Conversation) -> str:
    return client.get(
        reverse("chat_conversation", args=["cooking", conversation.pk])
    ).content.decode()


async def seen(answer: Message) -> list[tuple[str, str]]:
    return [event async for event in chat.watch(answer) if event[1]]


def id_in(address: str) -> int:
    return int(re.findall(r"/chat/(\d+)/", address)[0])
