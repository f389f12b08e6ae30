"""Brings messages to webhooks: signed, in order per object, until they are taken.

Signed as Standard Webhooks has it (standardwebhooks.com): HMAC-SHA256 over “id.timestamp.body”."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import time
from datetime import timedelta
from typing import Any

import httpx
from django.utils import timezone

from annotate.connections.client import Server, asking
from annotate.connections.sealing import Unreadable
from annotate.webhooks.models import Delivery, Event, Webhook, is_vouched_for

TIMEOUT = httpx.Timeout(10.0, connect=3.0)
# Seconds before each further attempt; the pauses that Standard Webhooks recommends.
PAUSES = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
LONGEST_REST = timedelta(minutes=1)  # of a webhook that cannot be reached at all
GONE = 410
AT_ONCE = 20  # messages a look


def deliver(number: int) -> None:
    """Sends a message, if it is due; and then rings for the next about the same object."""
    message = Delivery.objects.claim(number)
    if message is None:
        return
    try:
        status, trouble = _post(message), ""
    except Unreadable:
        status, trouble = None, "The secret cannot be read. Delete the webhook and add it again."
    except httpx.HTTPError as error:
        status, trouble = None, str(error) or type(error).__name__
    if status is not None and 200 <= status < 300:
        message.arrive(status)
        for following in Delivery.objects.after(message)[:1]:
            deliver(following.pk)
        return
    _try_later(message, status, trouble or f"The server answered {status}.")


def deliver_waiting() -> int:
    """Sends what is due and whose ring was not heard. Returns how many were tried."""
    numbers = list(Delivery.objects.due().order_by("pk").values_list("pk", flat=True)[:AT_ONCE])
    for number in numbers:
        deliver(number)
    return len(numbers)


def _try_later(message: Delivery, status: int | None, trouble: str) -> None:
    if status == GONE:
        message.webhook.pause()
        message.wait(timedelta(), status=status, trouble="The server says it is gone: paused.")
        return
    if message.attempts > len(PAUSES):
        message.give_up(status=status, trouble=trouble)
        return
    # Uneven, so that those that failed together do not come back together.
    pause = timedelta(seconds=PAUSES[message.attempts - 1] * random.uniform(1, 1.1))
    if status is None:
        rest = timezone.now() + min(pause, LONGEST_REST)
        Webhook.objects.filter(pk=message.webhook_id).update(rests_until=rest)
    message.wait(pause, status=status, trouble=trouble)


def _post(message: Delivery) -> int:
    """The status of the reply. Raises httpx.HTTPError, Unreadable."""
    webhook = message.webhook
    body = json.dumps(body_of(message), ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json", **signed(webhook.key, message.public_id, body)}
    base, slash, path = webhook.url.rpartition("/")
    if "//" not in base:  # the address is a bare host
        base, path = webhook.url, ""
    server = Server(base, is_trusted=is_vouched_for(webhook.url))
    with asking(server, "POST", path, timeout=TIMEOUT, headers=headers, content=body) as reply:
        return reply.status_code


def signed(key: bytes, message_id: str, body: bytes, *, at: int | None = None) -> dict[str, str]:
    """The headers by which a receiver knows a message and its sender. `at`: seconds since 1970."""
    sent_at = str(int(time.time()) if at is None else at)
    content = b".".join([message_id.encode(), sent_at.encode(), body])
    signature = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": sent_at,
        "webhook-signature": f"v1,{signature}",
    }


def body_of(message: Delivery) -> dict[str, Any]:
    """What is sent: the event as it happened, or a line for a Slack channel."""
    if message.webhook.is_slack:
        return {"text": f"{message.webhook.project}: {in_words(message)}"}
    happened = message.created_at.isoformat().replace("+00:00", "Z")
    return {"type": message.event, "timestamp": happened, "data": message.data}


def in_words(message: Delivery) -> str:
    """The event as a sentence."""
    data = message.data
    match message.event:
        case Event.LABEL:
            return f"{data['labeler']} submitted a {data['kind']}."
        case Event.BATCH:
            return f"The batch “{data['batch']}” is done: {data['tasks']} tasks."
        case Event.RUN:
            of = f" of Round {data['round']}" if data["round"] else ""
            return f"The {data['kind']} run{of} is {data['state']}."
        case Event.DECISION:
            return f"{data['policy']}: {data['act']} by {data['by']}. {data['reason']}"
        case Event.DRIFT:
            before, lately = (f"{data[when]:.0%}" for when in ("before", "lately"))
            return f"{data['labeler']} drifts: right on {lately} of late, on {before} before."
        case _:
            return f"A guest's thumb: {data['thumb'] or 'taken back'}."
