"""A client of the API with one token, for tests."""

from __future__ import annotations

import json
from typing import Any

from django.test import Client

from annotate.models import ApiToken, User


class Api:
    """Calls addresses below /api/v1/ in the name of a member, with every scope there is."""

    def __init__(self, user: User) -> None:
        project = user.memberships.get().project
        _, secret = ApiToken.issue(project=project, user=user, scopes=ApiToken.Scope.values)
        self.headers = {"Authorization": f"Bearer {secret}"}

    def __call__(self, method: str, address: str, body: Any = None, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Client().generic(
            method,
            address if address.startswith("http") else f"/api/v1/{address}",
            "" if body is None else json.dumps(body),
            content_type="application/json",
            headers={**self.headers, **named},
        )
