"""Who may call the API, with what, and how much at once."""

from __future__ import annotations

import io
from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import APIException, AuthenticationFailed, ParseError
from rest_framework.parsers import JSONParser
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from annotate.people.models import User
from annotate.people.tokens import ApiToken

LARGEST_BODY = 256 * 1024
LARGEST_BATCH = 2 * 1024 * 1024  # below DATA_UPLOAD_MAX_MEMORY_SIZE

Scope = ApiToken.Scope


class TooLarge(APIException):
    status_code = 413


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer fs_…`, and no cookie beside it: a browser's session is not a token."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        if settings.SESSION_COOKIE_NAME in request.COOKIES:
            raise AuthenticationFailed("Send a token or a session cookie, not both.")
        tokens = ApiToken.objects.usable().select_related("project", "user")
        token = tokens.filter(sha256=ApiToken.digest(secret.strip())).first()
        if token is None:
            raise AuthenticationFailed("This token is unknown, revoked or expired.")
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class TokenScheme(OpenApiAuthenticationExtension):
    target_class = TokenAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}


class HasScope(BasePermission):
    scope: str
    message = "This token was not made for that: it lacks the scope."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.auth, ApiToken) and self.scope in request.auth.scopes


class MayChat(HasScope):
    scope = Scope.CHAT


class MayGiveFeedback(HasScope):
    scope = Scope.FEEDBACK


class MayRead(HasScope):
    scope = Scope.READ


class MayLog(HasScope):
    scope = Scope.LOG


class SmallJSONParser(JSONParser):
    """Refuses what is too large or too deep before it costs anything."""

    largest = LARGEST_BODY

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        body = stream.read(self.largest + 1)
        if len(body) > self.largest:
            raise TooLarge(f"A request has at most {self.largest // 1024} kB.")
        try:
            return super().parse(io.BytesIO(body), media_type, parser_context)
        except RecursionError:
            raise ParseError("The JSON is nested too deeply.") from None


class BatchJSONParser(SmallJSONParser):
    largest = LARGEST_BATCH


def token_of(request: Request) -> ApiToken:
    assert isinstance(request.auth, ApiToken)  # the permissions above let nothing else in
    return request.auth
