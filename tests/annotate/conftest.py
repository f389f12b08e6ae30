"""What the tests of imports share, and those of the API."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from annotate.exchange.importing import Imported, import_labels
from annotate.models import (
    ApiToken,
    Completion,
    Demonstration,
    Feedback,
    Placement,
    Policy,
    Project,
    Prompt,
    Ranking,
    User,
)

HELLO = [{"role": "user", "content": "Hello?"}]
HI = [{"role": "assistant", "content": "Hi!"}]


@pytest.fixture
def bring(project, olga):
    """Imports lines, each an object or the bytes of a line, or one blob."""

    def bring(lines: list | bytes, **options) -> Imported:
        if isinstance(lines, list):
            lines = b"\n".join(
                line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines
            )
        return import_labels(io.BytesIO(lines), project=project, by=olga, **options)

    return bring


def rows() -> dict[str, int]:
    kinds = (Prompt, Completion, Policy, Demonstration, Ranking, Placement, Feedback, User)
    return {kind.__name__: kind.objects.count() for kind in kinds}


def ranking(**changes):
    line = {"prompt": "Which?", "completions": ["a", "b", "c"], "ranks": [1, 2, 2]}
    return {**line, **changes}


@pytest.fixture
def issue(project: Project, gus: User) -> Callable[..., str]:
    """Makes a token and hands out its secret."""

    def make(**fields: Any) -> str:
        fields = {"project": project, "user": gus, "scopes": ApiToken.Scope.values, **fields}
        return ApiToken.issue(**fields)[1]

    return make


@pytest.fixture
def call(client: Client, issue: Callable[..., str]) -> Callable[..., Any]:
    """call(address, body) with a token that may do everything; GET without a body."""

    def send(
        address: str,
        body: Any = None,
        *,
        token: str | None = None,
        method: str = "",
        **extra: Any,
    ) -> Any:
        headers = {"Authorization": f"Bearer {token or issue()}", **extra}
        if method:
            return getattr(client, method)(address, headers=headers)
        if body is None:
            return client.get(address, headers=headers)
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        return client.post(address, text, content_type="application/json", headers=headers)

    return send
