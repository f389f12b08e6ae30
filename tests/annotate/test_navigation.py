"""The rooms of the header, the project switcher, and the command palette: each finds what they may
open, and nothing else."""

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import Membership, Policy, Project
from annotate.navigation import ROOMS
from rlhf.models import Round, Run

PAGES = [page for pages in ROOMS.values() for page in pages]
CAST = ("gus", "alice", "rita", "olga")


@pytest.fixture
def here(request, project, settings, tmp_path):
    """here("olga", "rounds") is what the header of that page knows."""
    settings.DATA_DIR = tmp_path

    def ask(name: str, page: str, **chosen: str):
        client = Client()
        client.force_login(request.getfixturevalue(name))
        answer = client.get(reverse(page, args=["cooking"]), chosen)
        assert answer.status_code in (200, 302), (name, page)
        return answer.context["here"] if answer.status_code == 200 else None

    return ask


@pytest.fixture
def find(request, project):
    """find("olga", "soup") is {title: names} of what she finds."""

    def ask(name: str, words: str, **headers: str) -> dict[str, list[str]]:
        client = Client()
        client.force_login(request.getfixturevalue(name))
        answer = client.get(reverse("find", args=["cooking"]), {"q": words}, headers=headers)
        assert answer.status_code == 200
        return {title: [each.name for each in found] for title, found in answer.context["groups"]}

    return ask


@pytest.mark.parametrize("name", CAST)
def test_everybody_may_open_every_page_in_their_menus_and_no_menu_is_empty(here, name, policy):
    seen = here(name, "find")
    pages = [page for room in seen["rooms"] for page in room.pages] + seen["pages"]
    assert pages and all(room.pages for room in seen["rooms"])
    for page in pages:
        here(name, page.url_name)
    if name == "olga":
        assert pages == PAGES


@pytest.mark.parametrize(("name", "are_menus"), [*zip(CAST, (0, 0, 1, 1), strict=True)])
def test_who_has_few_pages_has_links_and_no_menus(here, name, are_menus):
    seen = here(name, "find")
    assert (bool(seen["rooms"]), bool(seen["pages"])) == (bool(are_menus), not are_menus)


@pytest.mark.parametrize(
    ("address", "page"),
    [
        ("rounds/", "rounds"),
        ("rounds/new/", "rounds_new"),
        ("rounds/queue/", "rounds_queue"),
        ("prompts/import/", "prompts_import"),
        ("policies/download/", "policies"),
        ("connections/new/", "connections"),
        ("suites/edit/", "policies_suites"),
        ("settings/", "project_settings"),
    ],
)
def test_a_page_belongs_to_the_nearest_above_it(project, olga, browse, address, page):
    here = browse(olga).get(f"/p/cooking/{address}").context["here"]
    assert here["page"].url_name == page
    assert [page in [p.url_name for p in room.pages] for room in here["rooms"] if room.is_here]
    assert sum(room.is_here for room in here["rooms"]) == 1


def test_the_home_of_a_project_is_in_no_room(project, olga, browse):
    here = browse(olga).get("/p/cooking/").context["here"]
    assert here["page"] is None and not any(room.is_here for room in here["rooms"])


@pytest.mark.parametrize(("role", "leads_to"), [("operator", "prompts"), ("labeler", "project")])
def test_the_switcher_stays_on_the_page_where_one_may_enter_it(
    project, olga, browse, role, leads_to
):
    bakery = Project.objects.create(name="Bakery", slug="bakery")
    bakery.memberships.create(user=olga, role=role)
    Project.objects.create(name="Nobody's", slug="nobodys")
    page = browse(olga).get("/p/cooking/prompts/").content.decode()
    header = page[: page.index("</header>")]
    assert f'href="{reverse(leads_to, args=["bakery"])}"' in header
    assert "nobodys" not in header
    assert browse(olga).get("/p/bakery/").status_code == 200


def test_with_one_project_its_name_leads_home(project, olga, browse):
    page = browse(olga).get("/p/cooking/prompts/").content.decode()
    assert '<a href="/p/cooking/" class="project-name">' in page


@pytest.fixture
def soups(project, new_prompt, policy, olga, alice):
    """Something called soup of every kind there is."""
    new_prompt("How do I make a soup?")
    Policy.objects.create(project=project, name="soup-sft", origin=Policy.Origin.EXTERNAL)
    round = Round.objects.create(
        project=project, number=7, recipe="tiny", base=policy, name="Soup", launched_by=olga
    )
    Run.objects.create(project=project, round=round, kind=Run.Kind.SFT)
    alice.first_name = "Soupy"
    alice.save()
    elsewhere = Project.objects.create(name="Elsewhere", slug="elsewhere-2")
    Policy.objects.create(project=elsewhere, name="soup-of-others", origin="external")
    bakery = Project.objects.create(name="Soup bakery", slug="bakery")
    for name in (olga, alice):
        bakery.memberships.create(user=name, role=Membership.Role.LABELER)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (
            "olga",
            {
                "Prompts": ["How do I make a soup?"],
                "Policies": ["soup-sft"],
                "People": ["Soupy"],
                "Rounds": ["Round 7"],
                "Projects": ["Soup bakery"],
            },
        ),
        ("rita", {"People": ["Soupy"]}),
        ("alice", {"Projects": ["Soup bakery"]}),
        ("gus", {}),
    ],
)
def test_everybody_finds_what_they_may_open_and_nothing_else(find, soups, rita, gus, name, found):
    assert find(name, "soup") == found


@pytest.mark.parametrize("name", CAST)
def test_whatever_is_found_opens(find, soups, request, settings, tmp_path, name):
    settings.DATA_DIR = tmp_path
    client = Client()
    client.force_login(request.getfixturevalue(name))
    for words in ("", "soup"):
        answer = client.get("/p/cooking/find/", {"q": words})
        for _, found in answer.context["groups"]:
            for each in found:
                assert client.get(each.address).status_code in (200, 302), each


@pytest.mark.parametrize(
    ("words", "pages"),
    [
        ("queue", ["Queue and machines"]),
        ("GPU", ["Queue and machines"]),
        ("train new", ["New round"]),
        ("audit", ["Audit log"]),
        ("udit", []),
        ("no such page", []),
    ],
)
def test_pages_are_found_by_the_beginnings_of_their_words(find, olga, words, pages):
    assert find("olga", words).get("Pages", []) == pages


@pytest.mark.parametrize("words", ["7", "round 7", "ROUND", "soup", "so ro"])
def test_a_round_is_found_by_its_number_and_name(find, soups, words):
    assert find("olga", words)["Rounds"] == ["Round 7"]


@pytest.mark.parametrize("words", ["", "-", "%", "\x00", "x" * 300, "9" * 30, "OR", '"'])
def test_no_words_break_the_search(find, soups, words):
    find("olga", words)
    find("olga", words, **{"HX-Request": "true"})


def test_the_palette_gets_options_and_the_page_a_page(project, olga, soups, browse):
    client = browse(olga)
    part = client.get("/p/cooking/find/?q=soup", headers={"HX-Request": "true"}).content.decode()
    assert part.count('role="option"') == 5 and "<html" not in part
    page = client.get("/p/cooking/find/?q=soup").content.decode()
    assert 'role="option"' not in page and "How do I make a soup?" in page
    assert "Nothing found for" in client.get("/p/cooking/find/?q=xyzzy").content.decode()
