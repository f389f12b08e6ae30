"""What those are told who are signed out, or signed in anew since their page was opened."""

import html
import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

pytestmark = pytest.mark.django_db


@pytest.fixture
def strict() -> Client:
    """A client whose requests need a token, as those of browsers do."""
    return Client(enforce_csrf_checks=True)


@pytest.fixture
def anna(django_user_model):
    return django_user_model.objects.create_user("anna")


KEPT = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')
OURS = {"Origin": "http://testserver"}
SENT = {"act": ["name"], "first_name": ['Änne\n"<b>"'], "tags": ["a", "b"], "last_name": [""]}


def kept(reply) -> dict[str, list[str]]:
    """What the page would send again."""
    fields: dict[str, list[str]] = {}
    for name, value in KEPT.findall(reply.content.decode()):
        fields.setdefault(name, []).append(html.unescape(value))
    return fields


def test_a_form_sent_while_signed_out_is_kept_to_be_sent_again(client):
    reply = client.post("/account/?from=here", SENT | {"new_password": "secret"})
    assert reply.status_code == 401
    page = reply.content.decode()
    assert "not saved yet" in page and 'href="/sign-in/"' in page
    assert 'action="/account/?from=here"' in page and "Send again" in page
    token = kept(reply).pop("csrfmiddlewaretoken")
    assert kept(reply) == SENT | {"csrfmiddlewaretoken": token}
    assert "secret" not in page


def test_a_file_is_not_kept_and_the_page_says_so(client):
    file = SimpleUploadedFile("a.jsonl", b"{}")
    page = client.post("/p/x/prompts/import/", {"file": file}).content.decode()
    assert "choose them again" in page and "Send again" not in page


def test_a_form_older_than_the_sign_in_is_sent_again_by_whom_the_page_names(strict, anna):
    strict.get("/sign-in/")
    strict.force_login(anna)
    name = {"act": "name", "first_name": "Änne", "last_name": ""}
    reply = strict.post("/account/", name, headers=OURS)
    assert reply.status_code == 403
    page = html.unescape(reply.content.decode())
    assert "You've signed in again" in page and "<strong>anna</strong>" in page
    assert strict.post("/account/", kept(reply), headers=OURS).status_code == 302
    anna.refresh_from_db()
    assert anna.first_name == "Änne"


@pytest.mark.parametrize("origin", ["http://elsewhere.example", "null", None])
def test_what_another_site_sends_is_not_offered_to_be_sent_again(origin, strict, anna):
    strict.force_login(anna)
    headers = {"Origin": origin} if origin else {}
    reply = strict.post("/account/", {"act": "name", "first_name": "Eve"}, headers=headers)
    assert reply.status_code == 403
    page = html.unescape(reply.content.decode())
    assert "Eve" not in page and "Send again" not in page and "copy what you wrote" in page


def test_without_its_cookies_a_script_is_told_that_it_is_signed_out(strict):
    reply = strict.post("/account/", {"act": "name"}, headers={"HX-Request": "true"})
    assert (reply.status_code, reply.content.decode()) == (401, "You've been signed out.")


def test_a_page_of_somebody_else_changes_nothing(client, anna, django_user_model):
    client.force_login(django_user_model.objects.create_user("otto"))
    headers = {"HX-Request": "true", "X-Person": str(anna.pk)}
    form = {"act": "name", "first_name": "Anna", "last_name": ""}
    reply = client.post("/account/", form, headers=headers)
    assert reply.status_code == 401
    assert reply.content.decode().startswith("You're signed in as otto now")
    assert not django_user_model.objects.filter(first_name="Anna").exists()
    headers["X-Person"] = str(django_user_model.objects.get(username="otto").pk)
    assert client.post("/account/", form, headers=headers).status_code == 302
