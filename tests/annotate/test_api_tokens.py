"""Who may call the API: tokens, what they are for, and when they die."""

from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from annotate.models import ApiToken, Membership, Policy, Project, User

Call = Callable[..., Any]
CHAT = "/v1/chat/completions"
FEEDBACK = "/api/v1/feedback"
POLICIES = "/api/v1/policies"
MESSAGES = [{"role": "user", "content": "How do I boil an egg?"}]
ALL = [(CHAT, {"messages": MESSAGES}), (FEEDBACK, {}), (POLICIES, None)]


@pytest.mark.parametrize(("address", "body"), ALL)
def test_nobody_comes_in_without_a_token(
    client: Client, gus: User, live: Policy, address: str, body: Any
) -> None:
    client.force_login(gus)  # a session is not a token
    send = client.get if body is None else client.post
    for headers in (
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer fs_guess"},
        {"Authorization": "Bearer \u00e9"},
        {"Authorization": "Basic Z3VzOmd1cw=="},
        {"Authorization": "Token fs_guess"},
    ):
        reply = send(address, headers=headers)
        assert reply.status_code == 401
        assert reply["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(("address", "body"), ALL)
def test_a_token_beside_a_session_is_refused(
    client: Client, gus: User, live: Policy, call: Call, address: str, body: Any
) -> None:
    client.force_login(gus)
    reply = call(address, body)
    assert reply.status_code == 401
    assert "not both" in reply.text


@pytest.mark.parametrize(("address", "body"), ALL)
@pytest.mark.parametrize("spoil", ["expired", "revoked", "paused", "left", "inactive"])
def test_a_token_dies_with_what_it_rests_on(
    call: Call,
    issue: Callable[..., str],
    gus: User,
    live: Policy,
    address: str,
    body: Any,
    spoil: str,
) -> None:
    token = issue(expires_at=timezone.now() + timedelta(hours=1))
    assert call(address, body, token=token).status_code in (200, 400)
    if spoil == "expired":
        ApiToken.objects.update(expires_at=timezone.now())
    elif spoil == "revoked":
        ApiToken.objects.get().revoke()
    elif spoil == "paused":
        gus.memberships.update(state=Membership.State.PAUSED)
    elif spoil == "left":
        gus.memberships.all().delete()
    else:
        User.objects.update(is_active=False)
    assert call(address, body, token=token).status_code == 401


@pytest.mark.parametrize(
    ("address", "body", "scope"),
    [(CHAT, {"messages": MESSAGES}, "chat"), (FEEDBACK, {}, "feedback"), (POLICIES, None, "read")],
)
def test_a_token_does_what_it_was_made_for(
    call: Call, issue: Callable[..., str], live: Policy, address: str, body: Any, scope: str
) -> None:
    others = [each for each in ApiToken.Scope.values if each != scope]
    assert call(address, body, token=issue(scopes=others)).status_code == 403
    assert call(address, body, token=issue(scopes=[scope])).status_code in (200, 400)


def test_only_a_digest_of_a_token_is_kept(issue: Callable[..., str]) -> None:
    secrets = {issue() for _ in range(50)}
    assert len(secrets) == 50
    for token in ApiToken.objects.all():
        secret = next(each for each in secrets if ApiToken.digest(each) == token.sha256)
        assert len(secret) >= 46  # 256 bits
        assert secret.startswith(token.prefix)
        assert secret not in str([str(value) for value in vars(token).values()])


def test_a_token_is_made_and_revoked_from_the_command_line(
    project: Project, gus: User, call: Call
) -> None:
    out = StringIO()
    call_command("api_token", project="cooking", user="gus", days=3, stdout=out, stderr=StringIO())
    secret = out.getvalue().strip()
    token = ApiToken.objects.get()
    assert (token.user, token.scopes) == (gus, ["chat", "feedback"])
    assert timedelta(days=2) < token.expires_at - timezone.now() <= timedelta(days=3)
    assert call(FEEDBACK, {}, token=secret).status_code == 400
    assert call(POLICIES, token=secret).status_code == 403
    call_command("api_token", project="cooking", revoke=token.prefix, stdout=StringIO())
    assert call(FEEDBACK, {}, token=secret).status_code == 401


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"project": "nowhere"}, "no project “nowhere”"),
        ({"project": "cooking"}, "Name a member of Cooking"),
        ({"project": "cooking", "user": "mallory"}, "Name a member of Cooking"),
        ({"project": "cooking", "user": "gus", "days": 0}, "1 or more"),
        ({"project": "cooking", "revoke": "fs_x"}, "0 tokens of Cooking"),
    ],
)
def test_the_command_says_what_is_wrong(
    project: Project, gus: User, mallory: User, arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(CommandError, match=sentence):
        call_command("api_token", **arguments)
    assert not ApiToken.objects.exists()
