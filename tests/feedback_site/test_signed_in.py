"""What those are told who are signed out, or signed in anew since their page was opened."""

import pytest
from django.test import Client

pytestmark = pytest.mark.django_db


@pytest.fixture
def strict() -> Client:
    """A client whose requests need a token, as those of browsers do."""
    return Client(enforce_csrf_checks=True)


@pytest.fixture
def anna(django_user_model):
    return django_user_model.objects.create_user("anna")


def test_a_form_sent_while_signed_out_is_answered_with_how_to_send_it_again(client):
    reply = client.post("/account/", {"first_name": "Anna"})
    assert reply.status_code == 401
    page = reply.content.decode()
    assert "What you sent was not saved" in page and 'href="/sign-in/"' in page


def test_a_form_older_than_the_sign_in_says_so(strict, anna):
    strict.force_login(anna)
    reply = strict.post("/account/", {"act": "name", "first_name": "Anna"})
    assert reply.status_code == 403
    assert "You&#x27;ve signed in again" in reply.content.decode().replace("'", "&#x27;")


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
