"""Who is let into a project, by whom, and how they get in again."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import connections
from django.test import Client
from django.utils import timezone

from annotate.access import may_make_links_for
from annotate.models import Invitation, Membership, Project, SignInLink, User

MEMBERS = "/p/cooking/labelers/members/"


@pytest.fixture
def at(browse, olga):
    return browse(olga)


def invite(at, names, role="labeler"):
    return at.post(MEMBERS, {"act": "invite", "names": names, "role": role})


def links_of(page):
    return dict(
        re.findall(r"<strong>(\S+)</strong>.*?>http://[^/]+(/\S+?)</code>", page, re.DOTALL)
    )


def test_an_invited_person_makes_an_account_of_their_own_and_joins(at, project):
    page = invite(at, "nora\r\n\r\n nils@example.org \nnora").content.decode()
    links = links_of(page)
    assert list(links) == ["nora", "nils@example.org"]
    assert not User.objects.filter(username__in=links).exists(), "nobody is there yet"
    shown = at.get(MEMBERS).content.decode().split("<main")[1]
    assert "http" not in shown and "nils@example.org" in shown
    client, link = Client(), links["nora"]
    page = client.get(link).content.decode()
    assert "olga invites you" in page and 'value="nora"' in page
    weak = client.post(link, {"username": "nora", "password": "nora"})
    assert weak.status_code == 422 and not User.objects.filter(username="nora").exists()
    form = {"username": "nora", "password": "quince-jelly-7"}
    assert client.post(link, form).url == "/p/cooking/"
    assert client.get("/p/cooking/").status_code == 200
    assert project.memberships.get(user__username="nora").role == "labeler"
    assert Client().get(link).status_code == Client().post(link, form).status_code == 410
    assert Client().post("/sign-in/", form).status_code == 302
    # Nobody else can make a link that signs nora in.
    member = project.memberships.get(user__username="nora")
    asked = at.post(MEMBERS, {"act": "link", "member": member.pk})
    assert asked.context["invited"][0].link is None
    assert not SignInLink.objects.exists()


def test_the_name_of_an_account_answers_as_a_new_one_and_makes_it_no_member(at, project, mallory):
    password = mallory.password
    page = invite(at, "mallory\nnobody-yet").content.decode()
    links = links_of(page)
    same = {re.sub(r"mallory|nobody-yet|/invitations/\S+/", "…", each) for each in links.values()}
    assert list(links) == ["mallory", "nobody-yet"] and len(same) == 1
    pieces = re.findall(r"<li><p><strong>.*?</li>", page, re.DOTALL)
    varying = r"mallory|nobody-yet|http://\S+?</code>|link-\d"
    assert len({re.sub(varying, "…", each) for each in pieces}) == 1
    mallory.refresh_from_db()
    assert mallory.password == password
    assert not project.memberships.filter(user=mallory).exists()
    assert Client().get(links["mallory"]).status_code == 200


def test_an_account_made_by_one_operator_is_not_let_in_by_its_name_elsewhere(
    browse, at, project, mallory
):
    """Whoever takes a name first gets nothing that is meant for another of that name."""
    elsewhere = "/p/elsewhere/labelers/members/"
    squat = links_of(
        browse(mallory)
        .post(elsewhere, {"act": "invite", "names": "dr.new", "role": "labeler"})
        .content.decode()
    )["dr.new"]
    squatter = Client()
    squatter.post(squat, {"username": "dr.new", "password": "quince-jelly-7"})
    link = links_of(invite(at, "dr.new").content.decode())["dr.new"]
    assert "Cooking" not in squatter.get("/", follow=True).content.decode()
    assert squatter.get("/p/cooking/").status_code == 404
    doctor = Client()
    taken = doctor.post(link, {"username": "dr.new", "password": "another-jelly-8"})
    assert taken.status_code == 422 and "choose another name" in taken.content.decode()
    assert doctor.post(link, {"username": "dr.new2", "password": "another-jelly-8"}).url
    assert doctor.get("/p/cooking/").status_code == 200
    assert squatter.get("/p/cooking/").status_code == 404


def test_an_account_that_is_there_joins_by_its_owners_click_alone(at, browse, project, mallory):
    link = links_of(invite(at, "mallory", "guest").content.decode())["mallory"]
    client = browse(mallory)
    assert "Join as mallory" in client.get(link).content.decode()
    assert not project.memberships.filter(user=mallory).exists(), "opening it joins nobody"
    assert client.post(link).url == "/p/cooking/"
    assert project.memberships.get(user=mallory).role == "guest"
    member = project.memberships.get(user=mallory)
    asked = at.post(MEMBERS, {"act": "link", "member": member.pk})
    assert asked.context["invited"][0].link is None, "it would open her other projects too"


def test_people_one_knows_invite_without_a_link(at, browse, project, olga, mallory):
    elsewhere = mallory.memberships.get().project
    invite(at, "mallory", "guest")
    client = browse(mallory)
    assert "Cooking" not in client.get("/", follow=True).content.decode(), "a stranger's"
    elsewhere.admit(name="olga", role="labeler")
    assert "invites you to <strong>Cooking" in client.get("/").content.decode()
    number = Invitation.objects.get().pk
    assert browse(olga).post("/", {"act": "accept", "invitation": number}).status_code == 404
    client.post("/", {"act": "decline", "invitation": number})
    assert client.post("/", {"act": "accept", "invitation": number}).status_code == 404
    assert not project.memberships.filter(user=mallory).exists()
    invite(at, "mallory", "guest")
    client.post("/", {"act": "accept", "invitation": Invitation.objects.first().pk})
    assert project.memberships.get(user=mallory).role == "guest"


@pytest.mark.parametrize("ends", ["withdrawn", "expired", "again", "inviter gone"])
def test_an_invitation_ends(at, browse, project, olga, alice, ends):
    link = links_of(invite(at, "nora").content.decode())["nora"]
    if ends == "withdrawn":
        at.post(MEMBERS, {"act": "withdraw", "member": Invitation.objects.get().pk})
    elif ends == "expired":
        Invitation.objects.update(created_at=timezone.now() - timedelta(days=8))
    elif ends == "again":
        invite(at, "nora")
    else:
        project.memberships.get(user=alice).act_as("operator")
        project.memberships.get(user=olga).leave()
    assert Client().get(link).status_code == 410
    assert Client().post(link, {"username": "nora"}).status_code == 410


@pytest.mark.django_db(transaction=True)
def test_of_sixteen_who_use_a_link_at_once_one_joins(at, project):
    link = links_of(invite(at, "nora").content.decode())["nora"]

    def join(number):
        try:
            return Client().post(link, {"username": f"nora{number}"}).status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(join, range(16)))
    assert sorted(statuses) == [302] + [410] * 15
    assert User.objects.filter(username__startswith="nora").count() == 1


def test_a_link_that_an_operator_makes_is_shown_to_its_owner_and_ends_with_the_next_project(
    at, browse, project, mallory
):
    nora = project.admit(name="nora", role="labeler")
    member = project.memberships.get(user=nora)
    page = at.post(MEMBERS, {"act": "link", "member": member.pk}).content.decode()
    link = links_of(page)["nora"]
    assert Client().get(link).status_code == 200
    mallory.memberships.get().project.admit(name="nora", role="labeler")
    assert Client().get(link).status_code == 410
    asked = at.post(MEMBERS, {"act": "link", "member": member.pk})
    assert asked.context["invited"][0].link is None
    assert SignInLink.objects.count() == 1
    assert "by olga, Cooking" in browse(nora).get("/account/security/").content.decode()


def test_one_leaves_or_is_removed_and_only_an_invitation_leads_back(at, browse, project, alice):
    client, member = browse(alice), project.memberships.get(user=alice)
    member.exclude()

    def leave(number):
        return client.post("/account/", {"act": "leave", "member": number}).status_code

    others = project.memberships.exclude(user=alice).get()
    assert leave(others.pk) == 404
    assert leave(member.pk) == 302
    assert client.get("/p/cooking/").status_code == 404
    assert "alice" not in at.get(MEMBERS).content.decode()
    for act in ("resume", "pause"):
        at.post(f"/p/cooking/labelers/{member.pk}/", {"act": act})
    at.post(MEMBERS, {"act": "role", "member": member.pk, "role": "reviewer"})
    asked = at.post(MEMBERS, {"act": "link", "member": member.pk})
    assert asked.context["invited"][0].link is None
    member.refresh_from_db()
    assert (member.state, member.role) == ("left", "labeler")
    client.post(links_of(invite(at, "alice", "reviewer").content.decode())["alice"])
    member.refresh_from_db()
    assert (member.state, member.role) == ("active", "reviewer")
    assert member.excluded_at, "what was said of their labels stays"
    at.post(MEMBERS, {"act": "remove", "member": member.pk})
    assert client.get("/p/cooking/").status_code == 404
    at.post(MEMBERS, {"act": "remove", "member": others.pk})
    assert "Nobody else operates" in at.get(MEMBERS).content.decode()


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("", "required"),
        ("no spaces", "Names cannot contain spaces: “no spaces”."),
        ("cooking:anna", "is not a valid name"),
        ("x" * 151, "is not a valid name"),
        ("nora\nalice", "“alice” is already a member"),
        ("\n".join(f"n{n}" for n in range(51)), "That is 51 names"),
    ],
)
def test_names_that_do_not_fit_let_nobody_in(names, sentence, at, project, alice):
    page = invite(at, names)
    assert page.status_code == 422
    assert sentence in page.content.decode()
    assert project.memberships.count() == 2


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
    assert may_make_links_for(olga, people, project) == {labeler.pk, fresh.pk}
    assert not may_make_links_for(rita, people, project)
    assert not may_make_links_for(mallory, people, project)
    elsewhere = mallory.memberships.get().project
    elsewhere.admit(name="nora", role="labeler")
    elsewhere.admit(name="olga", role="operator")
    for operator in (olga, mallory):
        for where in (project, elsewhere):
            assert not may_make_links_for(operator, [labeler], where)


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
