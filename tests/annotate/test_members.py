"""Who is let into a project, by whom, and how they get in again."""

import re

import pytest
from django.core.exceptions import ValidationError
from django.test import Client

from annotate.access import may_make_links_for
from annotate.models import Membership, Project, User

MEMBERS = "/p/cooking/labelers/members/"


@pytest.fixture
def at(browse, olga):
    return browse(olga)


def invite(at, names, role="labeler"):
    return at.post(MEMBERS, {"act": "invite", "names": names, "role": role})


def test_an_invited_person_comes_in_by_the_link_and_sets_a_password(at, project):
    page = invite(at, "nora\r\n\r\n nils@example.org \nnora").content.decode()
    links = dict(re.findall(r"<strong>(\S+)</strong>.*?>(http\S+?)</code>", page, re.DOTALL))
    assert list(links) == ["nora", "nils@example.org"]
    assert {m.role for m in project.memberships.filter(user__username__in=links)} == {"labeler"}
    assert "http" not in at.get(MEMBERS).content.decode().split("<main")[1]
    client, path = Client(), links["nora"].split("//")[1].partition("/")[2]
    client.post(f"/{path}")
    assert client.get("/p/cooking/").status_code == 200
    assert Client().get(f"/{path}").status_code == 410
    set_to = {"act": "password", "new_password1": "quince-jelly-7"}
    refused = client.post("/account/", {**set_to, "new_password2": "other"})
    assert refused.status_code == 422
    client.post("/account/", {**set_to, "new_password2": set_to["new_password1"]})
    assert client.get("/account/").status_code == 200, "setting a password signs nobody out"
    again = Client()
    form = {"username": "nora", "password": "quince-jelly-7"}
    assert again.post("/sign-in/", form).status_code == 302
    # From now on nobody else can make a link that signs nora in.
    member = project.memberships.get(user__username="nora")
    asked = at.post(MEMBERS, {"act": "link", "member": member.pk})
    assert asked.context["invited"][0].link is None


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("", "required"),
        ("no spaces", "“no spaces” is no name"),
        ("cooking:anna", "is no name"),
        ("x" * 151, "is no name"),
        ("nora\nalice", "“alice” is a member already"),
        ("\n".join(f"n{n}" for n in range(51)), "These are 51 names"),
    ],
)
def test_names_that_do_not_fit_let_nobody_in(names, sentence, at, project, alice):
    page = invite(at, names)
    assert page.status_code == 422
    assert sentence in page.content.decode()
    assert project.memberships.count() == 2


def test_somebody_at_home_elsewhere_is_let_in_without_a_link(at, project, olga, mallory):
    """A link would open her other projects too."""
    page = invite(at, "mallory", "guest")
    assert "Has an account here" in page.content.decode()
    assert project.memberships.get(user=mallory).role == "guest"
    member = project.memberships.get(user=mallory)
    asked = at.post(MEMBERS, {"act": "link", "member": member.pk})
    assert asked.context["invited"][0].link is None


def without_password(project, name, role, **fields):
    person = project.admit(name=name, role=role)
    User.objects.filter(pk=person.pk).update(**fields)
    return User.objects.get(pk=person.pk)


def test_whose_link_an_operator_may_make(project, olga, rita, mallory):
    signed_in = {"last_login": "2026-01-01T00:00Z"}
    labeler = without_password(project, "nora", "labeler", **signed_in)
    fresh = without_password(project, "otto", "operator")
    operator = without_password(project, "olaf", "operator", **signed_in)
    staff = without_password(project, "sue", "labeler", is_staff=True)
    gone = without_password(project, "gone", "labeler", is_active=False)
    people = [labeler, fresh, operator, staff, gone]
    assert may_make_links_for(olga, people) == {labeler.pk, fresh.pk}
    assert not may_make_links_for(rita, people) and not may_make_links_for(mallory, people)
    elsewhere = mallory.memberships.get().project
    elsewhere.admit(name="nora", role="labeler")
    assert not may_make_links_for(olga, [labeler]) and not may_make_links_for(mallory, [labeler])
    elsewhere.admit(name="olga", role="operator")
    assert may_make_links_for(olga, [labeler])


def test_a_role_changes_and_somebody_always_operates(at, browse, project, olga, alice):
    member = {each.user.username: each for each in project.memberships.select_related("user")}

    def change(name, role):
        at.post(MEMBERS, {"act": "role", "member": member[name].pk, "role": role})
        return Membership.objects.get(pk=member[name].pk).role

    assert change("alice", "wizard") == "labeler"
    assert change("olga", "guest") == "operator"
    at.post(f"/p/cooking/labelers/{member['olga'].pk}/", {"act": "pause"})
    assert "Nobody else operates" in at.get(MEMBERS).content.decode()
    assert Membership.objects.get(pk=member["olga"].pk).state == "active"
    assert change("alice", "operator") == "operator"
    browse(alice).post(f"/p/cooking/labelers/{member['olga'].pk}/", {"act": "pause"})
    assert at.get(MEMBERS).status_code == 404
    with pytest.raises(ValidationError):
        Membership.objects.get(pk=member["alice"].pk).act_as("labeler")


@pytest.mark.parametrize("number", ["", "x", "0", "9" * 30])
def test_a_member_that_is_none_is_not_found(number, at, mallory):
    for member in (number, mallory.memberships.get().pk):
        for act in ("role", "link"):
            form = {"act": act, "member": member, "role": "guest"}
            assert at.post(MEMBERS, form).status_code == 404


def test_people_of_imported_labels_are_no_members_to_invite(at, project):
    project.labeler_named("anna")
    assert "anna" not in at.get(MEMBERS).content.decode()


def test_an_operator_begins_another_project(at, browse, olga, alice):
    assert browse(alice).get("/projects/new/").status_code == 403
    for slug in ("baking", "baking-2"):
        assert at.post("/projects/new/", {"name": "Baking"}).url == f"/p/{slug}/"
    begun = Project.objects.get(slug="baking-2")
    assert begun.memberships.get().user == olga and begun.policies.live().exists()
    titles = [card.title for card in at.get("/p/baking/").context["to_do"]]
    for step in ("Write the guideline", "Import prompts", "Invite people"):
        assert step in titles
    assert at.post("/projects/new/", {"name": ""}).status_code == 422
    assert "Baking" in at.get("/").content.decode()


def test_a_name_is_as_others_see_it(browse, alice):
    client = browse(alice)
    client.post("/account/", {"act": "name", "first_name": "Alice", "last_name": "Lee"})
    assert "Alice Lee" in client.get("/account/").content.decode()


def test_many_members_are_paged_and_cost_what_few_do(at, project, django_assert_max_num_queries):
    for number in range(60):
        project.admit(name=f"n{number}", role="guest")
    with django_assert_max_num_queries(14):
        page = at.get(MEMBERS)
    assert len(page.context["page"].rows) == 50 and "61 members" in page.content.decode()
    assert page.content.decode().count("New sign-in link") == 49
    assert len(at.get(f"{MEMBERS}?role=operator").context["page"].rows) == 1
