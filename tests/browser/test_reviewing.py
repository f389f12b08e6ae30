"""Reviewing by keyboard, by mouse, by finger on a phone, and without JavaScript: all the same."""

from dataclasses import dataclass

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Site

# A ranking to review for each way of doing it.
PREPARE = """
from annotate.models import *
from annotate.labelling.queue import next_assignment
project = Project.objects.create(name="Bench", slug="bench", random_review_percent=100)
alice = project.admit(name="alice", role="labeler")
project.admit(name="rita", role="reviewer")
policy = Policy.objects.said_by(project, "m")
for number in range(4):
    messages = [{"role": "user", "content": f"Question {number}?"}]
    prompt = Prompt.objects.create(project=project, messages=messages)
    task = Task.objects.create(project=project, prompt=prompt, kind="rank")
    for text in ("One answer. " * 20, "Another. " * 20, "A third. " * 20):
        task.completions.add(Completion.objects.create(prompt=prompt, policy=policy, text=text))
    work = next_assignment(alice, project)
    places = [Placement(completion_id=pk, place=n) for n, pk in enumerate(work.shown_order, 1)]
    Ranking.record(assignment=work, placements=places)
"""


@pytest.fixture(scope="module")
def bench(site: Site) -> str:
    site.shell(PREPARE)
    return f"{site.url}/p/bench/review/"


@dataclass
class Mouse:
    page: Page

    def press(self, what: Locator) -> None:
        what.click()

    def choose(self, box: Locator, label: str) -> None:
        box.select_option(label)

    def write(self, box: Locator, text: str) -> None:
        self.press(box)
        self.page.keyboard.type(text)


class Finger(Mouse):
    def press(self, what: Locator) -> None:
        what.tap()


class Keyboard(Mouse):
    def press(self, what: Locator) -> None:
        self.go_to(what)
        self.page.keyboard.press("Enter")

    def choose(self, box: Locator, label: str) -> None:
        self.go_to(box)
        for _ in range(5):  # after a pause between two letters a browser begins anew
            self.page.keyboard.type(label)
            if box.evaluate("each => each.selectedOptions[0].label").startswith(label):
                return
            self.page.wait_for_timeout(1500)
        pytest.fail(f"{label} cannot be chosen by its letters")

    def write(self, box: Locator, text: str) -> None:
        self.go_to(box)
        self.page.keyboard.type(text)

    def go_to(self, what: Locator) -> None:
        for _ in range(100):
            if what.evaluate("node => node === document.activeElement"):
                return
            self.page.keyboard.press("Tab")
        pytest.fail(f"Tab never comes to {what}")


@pytest.mark.parametrize(
    "way, options",
    [
        (Keyboard, {}),
        (Mouse, {}),
        (Finger, {"width": 360, "has_touch": True, "is_mobile": True}),
        (Mouse, {"java_script_enabled": False}),
    ],
    ids=["keyboard", "mouse", "finger", "no JavaScript"],
)
def test_a_ranking_is_settled(way, options, bench, sign_in):
    rita = sign_in("rita", **options)
    page, hand = rita.page, way(rita.page)
    page.goto(bench)
    hand.press(page.get_by_role("link", name="Review the next one"))
    expect(page.get_by_role("heading", name="Review")).to_be_visible()
    work = page.url
    for letter, tier in (("A", "Tier 2"), ("B", "Tier 1"), ("C", "Tier 2")):
        hand.choose(page.get_by_label(f"My tier for {letter}"), tier)
    # Without a cause nothing is decided, and nothing lost.
    hand.press(page.get_by_role("button", name="Use my own ranking"))
    expect(page.get_by_text("Choose a cause.")).to_be_visible()
    expect(page.get_by_label("My tier for B")).to_have_value("1")
    assert all("422" in each for each in rita.errors)
    rita.errors.clear()
    hand.choose(page.get_by_label("Cause"), "labeler error")
    hand.write(page.get_by_label("Comment to the labeler"), "B says more.")
    if options.get("width"):
        assert page.evaluate("document.documentElement.scrollWidth <= 360")
        table = page.get_by_role("region", name="Places given to each completion")
        assert table.evaluate("wrap => wrap.scrollWidth <= wrap.clientWidth")
    hand.press(page.get_by_role("button", name="Use my own ranking"))
    expect(page.get_by_text("Your review is saved.")).to_be_visible()
    page.goto(work)
    own = page.get_by_label("Your own answer").get_by_role("listitem")
    expect(own).to_have_text(["B", "A = C"])


@pytest.mark.parametrize("width", [1280, 360])
def test_the_decision_is_in_view_and_each_has_a_key(width: int, site: Site, sign_in):
    slug = f"keys{width}"
    site.shell(PREPARE.replace("bench", slug).replace("Bench", slug))
    page = sign_in("rita", width=width).page
    page.goto(f"{site.url}/p/{slug}/review/")
    page.get_by_role("link", name="Question 3?").click()
    for name in ("Accept", "Use my own ranking", "Send back", "Exclude", "Skip"):
        expect(page.get_by_role("button", name=name).last).to_be_in_viewport(ratio=1)
    cause, comment = page.get_by_label("Cause"), page.get_by_label("Comment to the labeler")
    page.keyboard.press("e")  # and says first what is missing
    expect(cause).to_be_focused()
    expect(page.get_by_text("Choose a cause, then press Enter.")).to_be_visible()
    page.keyboard.type("lab")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Your review is saved.")).to_be_visible()
    page.keyboard.press("n")
    expect(page.get_by_text("Skipped.")).to_be_visible()
    page.keyboard.press("r")
    expect(comment).to_be_focused()
    expect(page.get_by_text("Say what to change, then press Ctrl Enter.")).to_be_visible()
    page.keyboard.type("area")  # is a comment, and no commands
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Your review is saved.")).to_be_visible()
    page.keyboard.press("a")
    expect(page.get_by_text("No reviews are waiting for you")).to_be_visible()
    said = "from annotate.models import Review\n"
    said += f"of = Review.objects.filter(ranking__prompt__project__slug='{slug}')\n"
    said += "print(*of.order_by('pk').values_list('verdict', flat=True))"
    assert site.shell(said) == "excluded sent_back accepted"


WRITTEN = """
from annotate.models import *
from annotate.labelling.queue import next_assignment
project = Project.objects.create(name="Eggs", slug="eggs", random_review_percent=100)
alice = project.admit(name="alice", role="labeler")
project.admit(name="rita", role="reviewer")
for number in range(2):
    messages = [{"role": "user", "content": f"Egg {number}?"}]
    prompt = Prompt.objects.create(project=project, messages=messages)
    Task.objects.create(project=project, prompt=prompt, kind="write")
    Demonstration.record(assignment=next_assignment(alice, project), text="Boil it.")
"""


def test_a_version_of_ones_own_outlives_a_reload_and_accept_asks_first(site: Site, sign_in):
    site.shell(WRITTEN)
    rita = sign_in("rita")
    page = rita.page
    page.goto(f"{site.url}/p/eggs/review/")
    page.get_by_role("link", name="Egg 0?").click()
    expect(page.locator("[name=active_seconds]")).not_to_have_value("0")
    mine, restore = page.get_by_label("Your version of the answer"), page.get_by_text("Restore")
    page.get_by_text("Edit the answer").click()
    mine.fill("Boil it for six minutes.")
    page.reload()
    expect(mine).to_be_hidden()
    restore.click()
    expect(mine).to_be_visible()
    expect(mine).to_have_value("Boil it for six minutes.")
    page.get_by_label("6", exact=True).check()
    page.get_by_role("button", name="Accept").click()
    expect(page.get_by_text("does not use your version")).to_be_visible()
    assert all("422" in each for each in rita.errors)
    rita.errors.clear()
    expect(mine).to_have_value("Boil it for six minutes.")
    expect(restore).to_be_hidden()
    page.get_by_label("Leave my version out").check()
    page.get_by_role("button", name="Accept").click()
    expect(page.get_by_text("Your review is saved.")).to_be_visible()
    expect(page.get_by_text("Egg 1?").first).to_be_visible()
    expect(restore).to_be_hidden()
    copies = "Object.keys(localStorage).filter(each => each.startsWith('draft:'))"
    assert page.evaluate(copies) == []


WIDE = PREPARE.replace("bench", "wide").replace("Bench", "Wide").replace(
    '"One answer. " * 20',
    '"```\\n" + "long_name = 1; " * 40 + "\\n```\\n\\n|" + " a |" * 60 + "\\n|" + "-|" * 60'
)  # fmt: skip


@pytest.mark.parametrize("width", [1280, 360])
def test_code_and_tables_leave_the_places_in_view(width: int, site: Site, sign_in):
    slug = f"wide{width}"
    site.shell(WIDE.replace("wide", slug).replace("Wide", slug))
    page = sign_in("rita", width=width).page
    page.goto(f"{site.url}/p/{slug}/review/")
    page.get_by_role("link", name="Question 3?").click()
    expect(page.get_by_label("My tier for A")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    table = page.get_by_role("region", name="Places given to each completion")
    assert table.evaluate("wrap => wrap.scrollWidth <= wrap.clientWidth")
