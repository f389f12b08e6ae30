"""What a guest can say in the chat, in a real browser: the wanted answer, better or worse, and the
better of two drafts."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site

WIDTHS = [1280, 360]
SET_UP = """
from annotate.models import Conversation, Message, Policy, Project
project, new = Project.objects.get_or_create(
    slug="says", defaults=dict(name="Says", new_guest_days=0, two_drafts_percent={percent})
)
Project.objects.filter(pk=project.pk).update(two_drafts_percent={percent})
project.refresh_from_db()
guest = project.admit(name="{name}", role="guest")
project.admit(name="rita", role="reviewer")
policy, _ = Policy.objects.get_or_create(
    project=project, name="cook", defaults=dict(origin="external", model_name="cook-1")
)
policy.go_live()
answer = Conversation.start(project=project, guest=guest, text="How do I boil an egg?")
drafts = [(answer, "**Eight** hours."), *((each, "Eight minutes.") for each in answer.rivals.all())]
for each, text in drafts:
    each.begin()
    each.end(state="done", text=text, finish_reason="stop")
print(answer.conversation_id)
"""
REGENERATE = """
from annotate.models import Message
answer = Message.objects.filter(conversation={chat}, role="assistant").latest("pk")
draft = answer.conversation.ask_again(instead_of=answer)
draft.begin()
draft.end(state="done", text="Eight minutes.", finish_reason="stop")
"""
HARVEST = """
from annotate import models
project = models.Project.objects.get(slug="says")
feedback = models.Feedback.objects.of_project(project)
preferences = models.Preference.objects.filter(draft__conversation__project=project)
for each in [*feedback, *preferences]:
    each.harvest()
print(models.{model}.objects.filter(source="guest", labeler__username="{name}").count())
"""


def chat_of(site: Site, sign_in, name: str, width: int, *, percent: int = 0, **options) -> Page:
    chat = site.shell(SET_UP.format(name=name, percent=percent)).splitlines()[-1]
    if options.pop("regenerated", False):
        site.shell(REGENERATE.format(chat=chat))
    page = sign_in(name, width=width, **options).page
    page.goto(f"{site.url}/p/says/chat/{chat}/")
    return page


def fits(page: Page) -> None:
    """No line is wider than the window."""
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0


def labels(site: Site, model: str, name: str) -> int:
    return int(site.shell(HARVEST.format(model=model, name=name)).splitlines()[-1])


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scripts", [True, False], ids=["script", "no-script"])
def test_the_answer_a_guest_wanted(site: Site, sign_in, width: int, scripts: bool):
    name = f"wants-{width}-{scripts}".lower()
    page = chat_of(site, sign_in, name, width, java_script_enabled=scripts)
    page.get_by_role("button", name="Bad answer").click()
    if not scripts:
        page.get_by_text("Tell us more").click()
    page.get_by_label("Show the answer you wanted").fill("Eight minutes, in boiling water.")
    page.get_by_role("button", name="Save").click()
    if scripts:
        expect(page.get_by_text("Thanks for the feedback.")).to_be_visible()
        fits(page)
    assert labels(site, "Demonstration", name) == 1
    rita = sign_in("rita", width=width).page
    rita.goto(f"{site.url}/p/says/feedback/")
    expect(rita.get_by_text("How do I boil an egg?").first).to_be_visible()
    fits(rita)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scripts", [True, False], ids=["script", "no-script"])
def test_better_same_or_worse(site: Site, sign_in, width: int, scripts: bool):
    name = f"compares-{width}-{scripts}".lower()
    page = chat_of(site, sign_in, name, width, regenerated=True, java_script_enabled=scripts)
    page.get_by_role("button", name="Worse", exact=True).click()
    worse = page.get_by_role("button", name="Worse", exact=True)
    expect(worse).to_have_attribute("aria-pressed", "true")
    worse.click()
    expect(worse).to_have_attribute("aria-pressed", "false")
    page.get_by_role("button", name="Better", exact=True).click()
    better = page.get_by_role("button", name="Better", exact=True)
    expect(better).to_have_attribute("aria-pressed", "true")
    if scripts:
        fits(page)
    assert labels(site, "Ranking", name) == 1


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scripts", [True, False], ids=["script", "no-script"])
def test_the_better_of_two_drafts(site: Site, sign_in, width: int, scripts: bool):
    name = f"picks-{width}-{scripts}".lower()
    page = chat_of(site, sign_in, name, width, percent=100, java_script_enabled=scripts)
    if scripts:
        fits(page)
        boxes = [page.locator(".draft").nth(n).bounding_box() for n in (0, 1)]
        assert boxes[0] and boxes[1]
        assert (boxes[0]["y"] == boxes[1]["y"]) is (width > 768), "side by side where there is room"
    minutes = page.locator(".draft", has_text="Eight minutes.")
    minutes.get_by_role("button", name="is better").click()
    expect(page.locator(".draft")).to_have_count(0)
    expect(page.get_by_text("Eight minutes.")).to_be_visible()
    assert labels(site, "Ranking", name) == 1
