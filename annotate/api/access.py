"""Who may call the API, with what, and how much at once."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, cast

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.decorators import api_view
from rest_framework.exceptions import APIException, AuthenticationFailed, ParseError
from rest_framework.parsers import JSONParser
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from annotate.access import Request as PageRequest
from annotate.access import project_for
from annotate.api.once import once
from annotate.people.models import Project, User
from annotate.people.tokens import ApiToken

LARGEST_BODY = 256 * 1024
LARGEST_BATCH = 2 * 1024 * 1024  # below DATA_UPLOAD_MAX_MEMORY_SIZE

Scope = ApiToken.Scope


class TooLarge(APIException):
    status_code = 413


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer fs_…`, and no cookie beside it: a browser's session is not a token."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        secret = ApiToken.secret_in(request.headers.get("Authorization", ""))
        if secret is None:
            return None
        if settings.SESSION_COOKIE_NAME in request.COOKIES:
            raise AuthenticationFailed("Send a token or a session cookie, not both.")
        token = ApiToken.objects.with_secret(secret)
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


class MayReadOr(HasScope):
    """Reading takes the scope `read`, whatever else is done takes another."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        wanted = Scope.READ if request.method in SAFE_METHODS else self.scope
        return isinstance(request.auth, ApiToken) and wanted in request.auth.scopes


class MayReadOrLabel(MayReadOr):
    scope = Scope.LABEL


class MayReadOrManage(MayReadOr):
    scope = Scope.MANAGE


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


def endpoint(
    *methods: str,
    permission: type[BasePermission],
    parsers: tuple[type[Any], ...] = (SmallJSONParser,),
    repeats: Callable[..., Any] | None = once,
) -> Callable[[Callable[..., Any]], Any]:
    """Makes an address of a function: called with a token of that permission. `repeats`: has a
    POST with the Idempotency-Key of an earlier one get the reply of that."""

    def wrap(view: Callable[..., Any]) -> Any:
        answering: Any = repeats(view) if repeats and "POST" in methods else view
        answering.authentication_classes = [TokenAuthentication]
        answering.permission_classes = [permission]
        answering.parser_classes = list(parsers)
        return api_view(methods)(answering)

    return wrap


def here(request: Request) -> tuple[PageRequest, str]:
    """What the access helpers of the pages take: who asks, and in which project."""
    return cast(PageRequest, request), token_of(request).project.slug


def project_of(request: Request, role: str) -> Project:
    """The token's project, if its member may act in `role` there."""
    return project_for(*here(request), role)
