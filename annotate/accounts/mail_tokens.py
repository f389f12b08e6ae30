"""Tokens of links that are sent by e-mail: each works once, for minutes, and only as long as its
account has the address it was sent to."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils.http import base36_to_int

from annotate.accounts.addresses import address_of
from annotate.people.sign_in import LoginLinkTokens


class MailTokens(LoginLinkTokens):
    lasts: timedelta

    def _make_hash_value(self, user: Any, timestamp: int) -> str:
        return f"{super()._make_hash_value(user, timestamp)}{address_of(user)}"

    def check_token(self, user: Any, token: str | None) -> bool:
        if not address_of(user) or not super().check_token(user, token):
            return False
        made = base36_to_int((token or "").partition("-")[0])
        age = self._num_seconds(self._now()) - made
        return bool(age <= self.lasts.total_seconds())


class SignInTokens(MailTokens):
    key_salt = "annotate.accounts.SignInTokens"
    lasts = timedelta(minutes=15)


class ResetTokens(MailTokens):
    key_salt = "annotate.accounts.ResetTokens"
    lasts = timedelta(hours=1)


sign_in_tokens = SignInTokens()
reset_tokens = ResetTokens()
