"""Sends e-mail by Django's mail settings, from a worker, holding no connection of the database."""

from __future__ import annotations

import smtplib
from datetime import timedelta

from django.conf import settings
from django.core.mail import EmailMessage
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from annotate.accounts.addresses import address_of, key_of, person_at, waiting_address_of
from annotate.accounts.mail_tokens import reset_tokens, sign_in_tokens
from annotate.accounts.mails import Mail
from annotate.connections.sealing import Unreadable, unseal
from feedback_site.pool import release_connections

PAUSES = (30, 300, 1800, 7200)  # seconds before each further attempt
OLD = timedelta(hours=1)  # whoever asked for a link does not wait for it any more
AT_ONCE = 20  # mails a look
PERMANENT = range(500, 600)  # RFC 5321: do not try again


def send(number: int) -> None:
    """Sends a mail, if it is due."""
    mail = Mail.objects.claim(number)
    if mail is None:
        return
    message = _message(mail)
    if message is None:
        mail.delete()
        return
    release_connections()
    try:
        message.send()
    except (OSError, smtplib.SMTPException) as error:
        _try_later(mail, error)
    else:
        mail.arrive()


def send_waiting() -> int:
    """Sends what is due and whose ring was not heard. Returns how many were tried."""
    numbers = list(Mail.objects.due().order_by("pk").values_list("pk", flat=True)[:AT_ONCE])
    for number in numbers:
        send(number)
    return len(numbers)


def _try_later(mail: Mail, error: Exception) -> None:
    trouble = _in_words(error)
    if mail.attempts > len(PAUSES) or _code(error) in PERMANENT:
        mail.give_up(trouble=trouble)
    else:
        mail.wait(timedelta(seconds=PAUSES[mail.attempts - 1]), trouble=trouble)


def _code(error: Exception) -> int:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return max((code for code, _ in error.recipients.values()), default=0)
    return getattr(error, "smtp_code", 0)


def _in_words(error: Exception) -> str:
    """What an operator can do something with."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return "The mail server refused the site's own name and password."
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        replies = [reply for _, reply in error.recipients.values()]
        said = b" ".join(force_bytes(reply) for reply in replies).decode(errors="replace")
        return f"The mail server refused this address: {said}"
    if isinstance(error, smtplib.SMTPResponseException):
        said = force_bytes(error.smtp_error).decode(errors="replace")
        return f"The mail server answered {error.smtp_code}: {said}"
    return f"The mail server cannot be reached: {error or type(error).__name__}"


def _message(mail: Mail) -> EmailMessage | None:
    """The mail in words. None: there is nobody to send it to, or it has no use any more."""
    context = _context(mail)
    if context is None:
        return None
    subject, text = render_to_string(
        f"annotate/mail/{mail.kind}.txt", {**context, "mail": mail, "site": settings.SITE_URL}
    ).split("\n", 1)
    return EmailMessage(subject, text.strip() + "\n", to=[mail.to])


def _context(mail: Mail) -> dict[str, object] | None:
    match mail.kind:
        case Mail.Kind.SIGN_IN | Mail.Kind.RESET:
            return _with_link(mail)
        case Mail.Kind.VERIFY:
            return _with_key(mail)
        case Mail.Kind.INVITATION:
            return _with_invitation(mail)
        case Mail.Kind.NEWS:
            return _with_notice(mail)
        case _:
            return {"person": mail.person}


def _with_link(mail: Mail) -> dict[str, object] | None:
    person = person_at(mail.to)
    if person is None or mail.created_at < timezone.now() - OLD:
        return None
    is_reset = mail.kind == Mail.Kind.RESET
    name, kind = (
        ("password_reset", reset_tokens) if is_reset else ("sign_in_by_link", sign_in_tokens)
    )
    uid = urlsafe_base64_encode(force_bytes(person.pk))
    path = reverse(name, args=[uid, kind.make_token(person)])
    return {"person": person, "link": settings.SITE_URL + path}


def _with_key(mail: Mail) -> dict[str, object] | None:
    waiting = waiting_address_of(mail.person) if mail.person else None
    if waiting is None or waiting.email != mail.to:
        return None
    path = reverse("verify_address", args=[key_of(waiting)])
    return {"person": mail.person, "link": settings.SITE_URL + path}


def _with_invitation(mail: Mail) -> dict[str, object] | None:
    invitation = mail.invitation
    if invitation is None or invitation.answered_at is not None:
        return None
    try:
        return {"invitation": invitation, "link": unseal(mail.sealed_link)}
    except Unreadable:
        return None


def _with_notice(mail: Mail) -> dict[str, object] | None:
    """None once it was seen, or where its reader no longer operates the project, wants no such
    mail or has another address."""
    person, notice = mail.person, mail.notice
    if person is None or notice is None or notice.seen_at or not person.notices_by_mail:
        return None
    operates = person.memberships.operating().filter(project=notice.project).exists()
    if not operates or address_of(person) != mail.to:
        return None
    return {"person": person, "notice": notice}
