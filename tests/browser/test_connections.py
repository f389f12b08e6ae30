"""A model server outside, from its address to what guests are answered by it."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Site
from tests.model_server import ModelServer, serving

KEY = "sk-canary-9c1e55"
SET_UP = """
from annotate.models import Project
project = Project.objects.create(name="Kitchen", slug="kitchen")
project.publish_guideline(text="Be brief.", author=None)
for name, role in [("olga", "operator"), ("gus", "guest")]:
    project.admit(name=name, role=role)
"""


@pytest.fixture
def server(site: Site) -> Iterator[ModelServer]:
    port = urlsplit(site.endpoint).port
    assert port
    with serving(ModelServer(key=KEY), port) as script:
        yield script


def test_a_model_outside_comes_from_its_address_to_the_guests(
    site: Site, sign_in, server: ModelServer
):
    site.shell(SET_UP)
    page = sign_in("olga").page
    page.goto(f"{site.url}/p/kitchen/settings/")
    page.get_by_role("link", name="Connections").click()
    expect(page.get_by_text("No connections yet.")).to_be_visible()
    page.get_by_role("link", name="New connection").click()
    page.get_by_label("Name").fill("Kitchen AI")
    page.get_by_label("Address").fill(site.endpoint)
    page.get_by_label("Key").fill("sk-wrong")
    page.get_by_role("button", name="Save and test").click()
    expect(page.get_by_role("heading", name="Test failed")).to_be_visible()
    page.get_by_label("Key", exact=True).fill(KEY)
    page.get_by_role("button", name="Save and test").click()
    expect(page.get_by_text("Kitchen AI answers, and has 2 models.")).to_be_visible()
    page.get_by_role("button", name="Test", exact=True).click()
    expect(page.get_by_role("heading", name="Works")).to_be_visible()
    assert KEY not in page.content()

    page.get_by_text("2 models", exact=True).click()
    page.get_by_role("link", name="cook-2").click()
    page.get_by_label("Name").fill("chef")
    expect(page.get_by_label("Model", exact=True)).to_have_value("cook-2")
    page.get_by_label("System prompt").fill("You are a cook.")
    page.get_by_role("button", name="Add policy").click()
    expect(page.get_by_text("cook-2 at Kitchen AI")).to_be_visible()

    page.get_by_role("link", name="Try").click()
    page.get_by_label("Prompts", exact=True).fill("How do I boil an egg?")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator("#grid .rendered").first).to_contain_text("eight")
    assert server.asked[-1]["model"] == "cook-2"
    assert server.asked[-1]["messages"][0]["content"] == "You are a cook."

    page.locator(".site-header summary", has_text="Serve").click()
    page.get_by_role("link", name="Policies").click()
    page.get_by_role("link", name="Promote").click()
    page.get_by_label("Reason", exact=True).fill("It cooks.")
    page.get_by_role("button", name="Make chef live").click()
    expect(page.get_by_text("chef is live.")).to_be_visible()

    guest = sign_in("gus").page
    guest.goto(f"{site.url}/p/kitchen/chat/")
    guest.get_by_role("textbox").fill("How do I boil an egg?")
    guest.get_by_role("button", name="Send").click()
    expect(guest.locator("#turns strong")).to_have_text("eight")
    assert KEY not in guest.content()


USES = """
from annotate.models import *
from rlhf.models.built_in_suites import BUILT_IN
project = Project.objects.create(
    name="Uses", slug="{slug}", random_review_percent=0, rate_before_ranking=False, gold_every=0,
    qualification_tasks=0,
)
project.publish_guideline(text="Be brief.", author=None)
for name, role in [("olga", "operator"), ("{slug}", "labeler")]:
    project.admit(name=name, role=role)
project.memberships.update(guideline_read=1)
server = Connection(project=project, name="Kitchen AI", base_url="{endpoint}")
server.set_key("{key}")
server.save()
for name, model in (("chef", "cook-1"), ("sous", "cook-2")):
    policy = project.policies.create(
        name=name, origin="prompted", connection=server, model_name=model
    )
    policy.go_live() if name == "chef" else None
for n in range(4):
    messages = [{{"role": "user", "content": f"How long does dish {{n}} take?"}}]
    Prompt.objects.create(project=project, messages=messages, split="train")
for name in BUILT_IN:
    project.suites.create(name=name, lines="")
project.suites.create(name="Times", lines="How long? => contains(minutes)\\nHow? => contains(ten)")
print(policy.pk)
"""
LEFT = """
from annotate.models import *
project = Project.objects.get(slug="{slug}")
print(Ranking.objects.filter(prompt__project=project).count())
print(Demonstration.objects.filter(prompt__project=project, distilled_from__name="sous").count())
print(project.policies.live().get())
"""


def test_it_is_sampled_compared_blind_asked_suites_promoted_and_distilled(
    site: Site, sign_in, server: ModelServer
):
    slug = "kitchen-uses"
    server.says_to = lambda request: {
        "cook-1": "It takes eight minutes.",
        "cook-2": "It takes ten minutes.",
    }[request["model"]]
    server.fails_first = [429, 500]
    server.headers = {"Retry-After": "0"}
    sous = site.shell(USES.format(slug=slug, endpoint=site.endpoint, key=KEY)).strip()
    page, home = sign_in("olga").page, f"{site.url}/p/{slug}"

    page.goto(f"{home}/policies/sample/")
    for name in ("chef", "sous"):
        page.get_by_label(name).check()
    page.get_by_label("Completions").fill("1")
    page.get_by_role("button", name="Sample").click()
    expect(page.get_by_role("heading").get_by_text("succeeded")).to_be_visible()

    blind = sign_in(slug).page
    blind.goto(f"{home}/label/")
    expect(blind.locator(".completion")).to_have_count(2)
    told = blind.content()
    assert not [each for each in ("chef", "sous", "cook-", "Kitchen AI") if each in told]
    blind.keyboard.press("2")
    expect(blind.get_by_role("button", name="Undo")).to_be_visible()

    page.goto(f"{home}/suites/")
    for name in ("chef", "sous"):
        page.get_by_label(name).check()
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.get_by_role("heading").get_by_text("succeeded")).to_be_visible()
    page.goto(f"{home}/policies/{sous}/gate/")
    expect(page.get_by_text("not worse than chef in any")).to_be_visible()
    page.get_by_label("Reason", exact=True).fill("It passes more.")
    page.get_by_label("Reason for overriding the gate").fill("A trial.")
    page.get_by_role("button", name="Make sous live").click()
    expect(page.get_by_text("sous is live.")).to_be_visible()

    page.goto(f"{home}/policies/sample/")
    page.get_by_label("sous").check()
    page.get_by_label("Completions").fill("1")
    page.get_by_label("Make demonstrations of the answers").check()
    page.get_by_role("button", name="Sample").click()
    expect(page.get_by_text("4 finished answers were saved as demonstrations")).to_be_visible()
    assert KEY not in page.content()
    assert site.shell(LEFT.format(slug=slug)).split() == ["1", "4", "sous"]
    assert all(each["Authorization"] == f"Bearer {KEY}" for each in server.asked_with)


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_fit(site: Site, sign_in, width: int, scheme: str):
    slug = f"kitchen-{scheme}-{width}"
    connection = site.shell(
        f"{SET_UP.replace('kitchen', slug)}"
        "from annotate.models import Connection\n"
        f"made = Connection(project=project, name='AI', base_url='{site.endpoint}')\n"
        "made.save()\n"
        "print(made.pk)"
    ).strip()
    page = sign_in("olga", width=width, scheme=scheme).page
    for name in ("connections/", "connections/new/", "policies/new/", f"connections/{connection}/"):
        page.goto(f"{site.url}/p/{slug}/{name}")
        wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert not page.evaluate(wide), name
