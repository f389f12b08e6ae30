"""Keys of other services as the database keeps them: sealed by Fernet (AES-128-CBC with an HMAC)
under a key that is derived from SECRET_KEY.

What an earlier SECRET_KEY sealed opens while that one stands in SECRET_KEY_FALLBACKS."""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

PURPOSE = b"feedback-site: keys of connections"


class Unreadable(Exception):
    """No SECRET_KEY that the site knows has sealed this."""


def seal(secret: str) -> str:
    """Returns `secret` as a Fernet token, which only this site opens."""
    return _seals().encrypt(secret.encode()).decode()


def unseal(token: str) -> str:
    """Returns what was sealed. Raises Unreadable."""
    try:
        return _seals().decrypt(token.encode()).decode()
    except InvalidToken:
        raise Unreadable from None


def reseal(token: str) -> str:
    """Returns the same secret, sealed under the newest SECRET_KEY. Raises Unreadable."""
    try:
        return _seals().rotate(token.encode()).decode()
    except InvalidToken:
        raise Unreadable from None


def _seals() -> MultiFernet:
    return MultiFernet(
        [_seal_of(each) for each in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]
    )


def _seal_of(secret_key: str) -> Fernet:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=PURPOSE)
    return Fernet(base64.urlsafe_b64encode(derived.derive(secret_key.encode())))
