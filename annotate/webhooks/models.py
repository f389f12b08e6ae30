"""Webhooks: addresses outside that are told what happens in a project.

An event and the messages about it are stored in the transaction of what happened: neither is there
without the other. `sending` brings them out."""

from __future__ import annotations

import base64
import secrets
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now
from django.utils import timezone

from annotate.connections.addresses import NotPublic, is_trusted, resolve
from annotate.connections.sealing import reseal, seal, unseal
from annotate.notices.models import News, Notice
from annotate.people.models import Project, User
from feedback_site.bell import enqueue_on_commit
from feedback_site.prepared import prepared

SECRET_BYTES = 32  # Standard Webhooks asks for 24 to 64
CLAIMED = timedelta(minutes=1)  # after which somebody else may send a message


class Event(models.TextChoices):
    LABEL = "label.submitted", "a label was submitted, corrected or withdrawn"
    BATCH = "batch.done", "all tasks of a batch are done"
    RUN = "run.state", "a run has another state"
    DECISION = "policy.decided", "a policy was promoted, made the challenger or rejected"
    DRIFT = "labeler.drifted", "a labeler agrees with the others less than before"
    THUMB = "thumb.given", "a thumb was given, changed or removed"


def origin_of(url: str) -> str:
    """Scheme, host and port: what INFERENCE_ENDPOINTS names for a webhook in a private network."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def is_vouched_for(url: str) -> bool:
    """Whether the installation's settings name the address, or its origin."""
    return is_trusted(url) or is_trusted(origin_of(url))


def validate_address(url: str) -> None:
    """Raises ValidationError unless a webhook may go there."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        raise ValidationError("This is not a valid address.")
    if parts.scheme not in ("http", "https") or not host:
        raise ValidationError("Enter an address like https://example.com/hooks/labels.")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValidationError("Leave out user names, passwords and “#”.")
    if parts.scheme == "http" and not is_vouched_for(url):
        raise ValidationError(
            "Only servers that the setting INFERENCE_ENDPOINTS names may be called without TLS. "
            "Use https://, or have whoever runs this site add the address there."
        )
    if not is_vouched_for(url):
        _refuse_private(host, parts.port or 443)


def _refuse_private(host: str, port: int) -> None:
    """Raises ValidationError where the name leads into a private network. A name that has no
    address today may have one tomorrow: every delivery looks again."""
    try:
        resolve(host, port)
    except NotPublic:
        raise ValidationError(
            f"{host} is not on the public internet. Have whoever runs this site add the address to"
            " the setting INFERENCE_ENDPOINTS."
        ) from None
    except httpx.ConnectError:
        pass


class WebhookQuerySet(models.QuerySet["Webhook"]):
    def active(self) -> WebhookQuerySet:
        return self.filter(paused_at=None)

    def with_trouble(self) -> WebhookQuerySet:
        """Adds `waiting`: how many messages have not arrived yet."""
        pending = Q(deliveries__delivered_at=None, deliveries__given_up_at=None)
        return self.annotate(waiting=models.Count("deliveries", filter=pending))


class Webhook(models.Model):
    project = models.ForeignKey(Project, models.CASCADE, related_name="webhooks")
    url = models.CharField("address", max_length=500, validators=[validate_address])
    events = ArrayField(models.CharField(max_length=20, choices=Event))
    is_slack = models.BooleanField(
        "Send as Slack messages", default=False, help_text='{"text": "…"}, as Slack takes it.'
    )
    sealed_secret = models.TextField(editable=False)
    paused_at = models.DateTimeField(null=True, editable=False)
    rests_until = models.DateTimeField(null=True, editable=False)
    created_by = models.ForeignKey(User, models.PROTECT, related_name="+", editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = WebhookQuerySet.as_manager()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return urlsplit(self.url).hostname or self.url

    def make_secret(self) -> str:
        """Seals a new secret, which is known to nobody once it was shown; `save` keeps it."""
        secret = "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
        self.sealed_secret = seal(secret)
        return secret

    @property
    def key(self) -> bytes:
        """What its messages are signed with. Raises Unreadable."""
        return base64.b64decode(unseal(self.sealed_secret).removeprefix("whsec_"))

    @property
    def event_labels(self) -> list[str]:
        return [str(Event(each).label) for each in self.events]

    def reseal(self) -> None:
        """Seals the secret under the newest SECRET_KEY. Raises Unreadable."""
        self.sealed_secret = reseal(self.sealed_secret)
        self.save(update_fields=["sealed_secret"])

    def pause(self) -> None:
        """What happens from now on is stored, and sent when it is resumed."""
        self.paused_at = timezone.now()
        self.save(update_fields=["paused_at"])

    def resume(self) -> None:
        self.paused_at = self.rests_until = None
        self.save(update_fields=["paused_at", "rests_until"])
        for number in self.deliveries.due().values_list("pk", flat=True)[:100]:
            ring(number)


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def pending(self) -> DeliveryQuerySet:
        return self.filter(delivered_at=None, given_up_at=None)

    def numbered(self, number: int) -> DeliveryQuerySet:
        return self.filter(pk=number)

    def due(self) -> DeliveryQuerySet:
        """Those to send now: of each object's messages only the oldest, so that they arrive in
        order."""
        earlier = Delivery.objects.pending().filter(
            webhook=OuterRef("webhook"), subject=OuterRef("subject"), pk__lt=OuterRef("pk")
        )
        awake = Q(webhook__rests_until=None) | Q(webhook__rests_until__lte=Now())
        return self.pending().filter(
            awake, ~Exists(earlier), webhook__paused_at=None, next_at__lte=Now()
        )

    def claim(self, number: int) -> Delivery | None:
        """This one, if it is due and nobody else is sending it."""
        free = Q(claimed_until=None) | Q(claimed_until__lt=Now())
        mine = Delivery.objects.pending().filter(free, pk=number, pk__in=self.due().values("pk"))
        taken = mine.update(claimed_until=Now() + CLAIMED, attempts=models.F("attempts") + 1)
        return self.select_related("webhook__project").get(pk=number) if taken else None

    def after(self, delivery: Delivery) -> DeliveryQuerySet:
        """The later ones about the same object."""
        same = {"webhook": delivery.webhook_id, "subject": delivery.subject}
        return self.due().filter(pk__gt=delivery.pk, **same)


class Delivery(models.Model):
    """A message to one webhook, and what became of it."""

    webhook = models.ForeignKey(Webhook, models.CASCADE, related_name="deliveries")
    message_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    event = models.CharField(max_length=20, choices=Event)
    subject = models.CharField(max_length=150, help_text="What it is about: those arrive in order.")
    data = models.JSONField()
    attempts = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(db_default=Now())
    claimed_until = models.DateTimeField(null=True)
    delivered_at = models.DateTimeField(null=True)
    given_up_at = models.DateTimeField(null=True)
    status = models.PositiveSmallIntegerField(null=True, help_text="Of the newest reply.")
    trouble = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "deliveries"
        indexes = [
            models.Index(
                fields=["webhook", "subject", "id"],
                condition=Q(delivered_at=None, given_up_at=None),
                name="messages_to_send",
            )
        ]

    def __str__(self) -> str:
        return f"{self.event} to {self.webhook}"

    @property
    def public_id(self) -> str:
        """The same at each attempt: whoever gets it twice knows it."""
        return f"msg_{self.message_id.hex}"

    @property
    def is_pending(self) -> bool:
        return self.delivered_at is None and self.given_up_at is None

    def arrive(self, status: int) -> None:
        """Notes that it was taken."""
        self._note(delivered_at=timezone.now(), status=status, trouble="")

    def wait(self, pause: timedelta, *, status: int | None, trouble: str) -> None:
        """Puts the next attempt off."""
        self._note(next_at=timezone.now() + pause, status=status, trouble=trouble[:300])

    def give_up(self, *, status: int | None, trouble: str) -> None:
        self._note(given_up_at=timezone.now(), status=status, trouble=trouble[:300])

    def send_again(self) -> None:
        """Sends it anew under the same id, whatever became of it."""
        self._note(
            delivered_at=None, given_up_at=None, attempts=0, next_at=timezone.now(), trouble=""
        )
        ring(self.pk)

    def _note(self, **fields: Any) -> None:
        Delivery.objects.filter(pk=self.pk).update(claimed_until=None, **fields)
        self.refresh_from_db()


@prepared
def _listening(project: int) -> models.QuerySet[Webhook]:
    return Webhook.objects.filter(project=project)


def announce(
    project: int,
    event: str,
    *,
    subject: str,
    data: Callable[[], dict[str, Any]],
    news: News | None = None,
) -> None:
    """Stores a message for each webhook of the project that wants the event. Call it in the
    transaction of what has happened. `subject`: the object it is about, by kind and id; `data`:
    asked for only where there is such a webhook; `news`: what the operators are told of it, if
    anything."""
    if news:
        Notice.tell(project, event, news)
    told = [webhook for webhook in _listening(project=project) if event in webhook.events]
    said = data() if told else {}
    messages = [
        Delivery(webhook=webhook, event=event, subject=subject[:150], data=said) for webhook in told
    ]
    for message in Delivery.objects.bulk_create(messages):
        ring(message.pk)


def ring(number: int) -> None:
    enqueue_on_commit("label", "annotate.jobs.deliver", number)
