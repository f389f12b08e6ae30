"""A labeler's whole day, by keys alone, by finger alone, and without JavaScript: from Home by the
guideline through work of every kind to the last task."""

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Site
from tests.browser.test_reviewing import Finger, Keyboard, Mouse
from tests.browser.test_talking import Numbering, server
from tests.browser.test_ways_to_submit import CHOOSE_OF_TWO, by_key, by_select, by_tap

__all__ = ["server"]

SET_UP = """
from annotate.labels.kinds.talk.tasks import open_talks
from annotate.models import *
project = Project.objects.create(
    name="Day", slug="{slug}", rate_before_ranking=False, gold_every=0, random_review_percent=0,
    new_writer_reviews=0,
)
project.publish_guideline(text="Be brief.", author=None)
project.admit(name="{slug}", role="labeler")
olga = project.admit(name="olga", role="operator")
cook, baker = (
    project.policies.create(name=name, origin="prompted", endpoint="{endpoint}", model_name=name)
    for name in ("cook", "baker")
)
for k, kind in ((3, "rank"), (2, "rank"), (1, "edit"), (0, "write"), (0, "write")):
    messages = [{{"role": "user", "content": f"Why salt? {{project.prompts.count()}}"}}]
    prompt = Prompt.objects.create(project=project, messages=messages)
    task = Task.objects.create(project=project, prompt=prompt, kind=kind)
    for n in range(k):
        text = f"For taste, and {{n}}. " * 9
        task.completions.add(Completion.objects.create(prompt=prompt, policy=cook, text=text))
plan = TalkPlan(project=project, first=cook, second=baker, goal="A meal.", author=olga)
open_talks(plan, count=1)
"""
DONE = """
from annotate.models import Assignment
done = Assignment.objects.filter(task__project__slug="{slug}").order_by("ended_at")
for work in done:
    print(work.task.kind, work.state, work.label.in_short if work.label else work.skip_reason)
"""
WAYS = {
    "keyboard": (Keyboard, {}, by_key, "key"),
    "touch": (Finger, {"width": 360, "has_touch": True, "is_mobile": True}, by_tap, "touch"),
    "no-js": (Mouse, {"java_script_enabled": False}, by_select, "no JavaScript"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_whole_day(way: str, site: Site, sign_in, server: Numbering):
    slug = f"day-{way}"
    site.shell(SET_UP.format(slug=slug, endpoint=site.endpoint))
    make_hand, options, place, choosing = WAYS[way]
    page = sign_in(slug, **options).page
    hand = make_hand(page)

    page.goto(f"{site.url}/p/{slug}/")
    hand.press(page.get_by_role("link", name="Read the guideline"))
    hand.press(page.get_by_role("button", name="I have read it"))
    at(page, "Why salt? 0")
    for letter in page.locator(".completion").evaluate_all("all => all.map(a => a.dataset.letter)"):
        place(page, letter, {"A": "2", "B": "3", "C": "1"}[letter])
    hand.press(page.locator("#submit"))

    at(page, "Why salt? 1")
    choose(hand, choosing, "A better")
    at(page, "Why salt? 2")
    hand.press(page.get_by_role("button", name="Undo"))
    at(page, "Why salt? 1")
    expect(page.get_by_label("A better")).to_be_checked()
    choose(hand, choosing, "B much better")

    at(page, "Why salt? 2")
    hand.write(page.locator("#id_text"), "")
    page.keyboard.press("Control+A")
    page.keyboard.type("For taste.")
    hand.press(page.locator("#submit"))

    at(page, "A meal.")
    hand.write(page.get_by_label("Your first message"), "What shall I cook?")
    hand.press(page.locator("#submit"))
    expect(page.locator(".scale")).to_be_visible()
    choose(hand, choosing, "B much better")
    expect(page.locator(".talk-answer")).to_have_count(1)
    hand.press(page.get_by_role("button", name="Finish talk"))

    at(page, "Why salt? 3")
    hand.press(page.get_by_text("Skip…"))
    tick(hand, page.get_by_label("The prompt is unclear"))
    hand.press(page.get_by_role("button", name="Skip", exact=True))
    at(page, "Why salt? 4")
    hand.write(page.locator("#id_text"), "It keeps food.")
    hand.press(page.locator("#submit"))
    expect(page.get_by_role("heading", name="All done")).to_be_visible()
    hand.press(page.get_by_role("link", name="My work").first)
    expect(page.get_by_role("heading", name="My work")).to_be_visible()

    assert site.shell(DONE.format(slug=slug)).splitlines() == [
        "rank submitted C > A > B",
        "rank submitted B > A, much better",
        "edit submitted For taste.",
        "talk submitted 1 turn: What shall I cook?",
        "write skipped unclear",
        "write submitted It keeps food.",
    ]


def at(page: Page, prompt: str) -> None:
    """On the task about this prompt."""
    expect(page.locator(".asked", has_text=prompt)).to_be_attached()


def choose(hand: Mouse, way: str, option: str) -> None:
    if way == "key":  # A may stand on the right, where other keys are
        key = hand.page.get_by_label(option).get_attribute("data-key")
        return hand.page.keyboard.press(key or "")
    CHOOSE_OF_TWO[way](hand.page, option)
    if way == "no JavaScript":
        hand.press(hand.page.locator("#submit"))


def tick(hand: Mouse, what: Locator) -> None:
    if isinstance(hand, Keyboard):
        hand.go_to(what)
        hand.page.keyboard.press("Space")
    else:
        hand.press(what)
