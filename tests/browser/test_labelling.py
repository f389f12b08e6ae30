"""Labelling by keyboard, by mouse, by finger on a phone, and without JavaScript: all the same."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Site

PREPARE = """
from annotate.work.letters import letters_of
from annotate.models import (
    Assignment, Completion, Policy, Project, Prompt, PromptDraft, Task,
)
project, is_new = Project.objects.get_or_create(slug="desk", defaults={{"name": "Desk"}})
if is_new:
    project.publish_guideline(text="Be **brief** and right.", author=None)
labeler = project.admit(name="alice", role="labeler")
project.memberships.update(guideline_read=1)
project.tasks.open().update(closed_at="2026-01-01T00:00Z")
Assignment.objects.of_project(project).leased().update(leased_until="2026-01-01T00:00Z")
PromptDraft.objects.of_project(project).delete()
policy = Policy.objects.said_by(project, "m")
for k in {sizes}:
    asked = f"Why do we have leap years? {{project.prompts.count()}}"
    prompt = Prompt.objects.create(project=project, messages=[{{"role": "user", "content": asked}}])
    kind = ["write", "edit", "rank"][min(k, 2)]
    task = Task.objects.create(project=project, prompt=prompt, kind=kind)
    for n in range(k):
        text = f"Answer {{n}} of {{k}}, and because of that a rather long sentence follows. " * 6
        task.completions.add(Completion.objects.create(prompt=prompt, policy=policy, text=text))
    # Shown in the order of their letters: the tests say A for the first. The lease has run out.
    shown = list(letters_of(task.completions.values_list("pk", flat=True)))
    Assignment.objects.create(
        task=task, labeler=labeler, leased_until="2026-01-01T00:00Z", shown_order=shown
    )
"""
STORED = """
from annotate.models import Demonstration, Ranking
for model in (Ranking, Demonstration):
    for label in model.objects.current().filter(prompt__project__slug="desk").order_by("pk"):
        said = " > ".join("=".join(t) for t in label.tiers) if model is Ranking else label.text
        print(said, getattr(label, "strength", None) or "", getattr(label, "outcome", ""))
"""


@pytest.fixture
def desk(site: Site) -> Callable[..., None]:
    """Work of these sizes and no other: K for a ranking of K, 0 for writing, 1 for an edit."""

    def prepare(sizes: list[int], rated: bool = True) -> None:
        code = PREPARE.format(sizes=sizes)
        site.shell(f"{code}\nproject.rate_before_ranking = {rated}\nproject.save()")

    return prepare


def stored(site: Site, kind: str = "rank") -> list[str]:
    lines = site.shell(STORED).splitlines()
    return [line for line in lines if ("ranked" in line or "all_bad" in line) == (kind == "rank")]


def newest(site: Site, kind: str = "rank") -> str:
    return stored(site, kind)[-1]


def open_next(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/p/desk/label/")
    expect(page.locator("#work")).to_be_visible()


def expect_done(page: Page) -> None:
    expect(page.get_by_text("Saved at")).to_be_visible()
    expect(page.get_by_role("heading", name="All done")).to_be_visible()


def tiers(page: Page) -> list[str]:
    return [select.input_value() for select in page.locator(".tier select").all()]


def test_by_keyboard_only(site: Site, sign_in, desk):
    desk([4], rated=False)
    page = sign_in("alice").page
    open_next(page, site)
    for key in ("1", "2", "=", "j", "4", "Shift+ArrowUp", "u"):
        page.keyboard.press(key)
    assert tiers(page) == ["1", "2", "2", "4"]
    for key in ("Shift+ArrowUp", "Shift+ArrowUp"):  # into the tie, and ahead of it
        page.keyboard.press(key)
    assert tiers(page) == ["1", "3", "3", "2"]
    expect(page.locator("#said")).to_have_text("D is now tier 2")
    for key in ("k", "x"):
        page.keyboard.press(key)
    assert tiers(page) == ["1", "3", "4", "2"]
    expect(page.locator("#said")).to_have_text("C is now tier 4")
    page.keyboard.press("Control+Enter")
    expect_done(page)
    assert newest(site) == "A > D > B > C  ranked"


@pytest.mark.parametrize(
    "key, order", [("7", "B > A 3 ranked"), ("=", "A=B  ranked"), ("b", "A=B  all_bad")]
)
def test_of_two_by_one_key(key, order, site: Site, sign_in, desk):
    desk([2])
    page = sign_in("alice").page
    open_next(page, site)
    page.keyboard.press(key)
    expect_done(page)
    assert newest(site) == order


def test_an_answer_is_sent_by_keyboard_from_its_preview_too(site: Site, sign_in, desk):
    desk([0])
    page = sign_in("alice").page
    open_next(page, site)
    page.locator("#id_text").fill("Because a year is **longer**.")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#preview strong")).to_have_text("longer")
    page.keyboard.press("Control+Enter")
    expect_done(page)
    assert newest(site, "write").startswith("Because a year is **longer**.")
    # Back and forth again: nothing breaks on the console.
    page.go_back()
    expect(page.locator("#main")).to_be_visible()


@pytest.mark.parametrize("width", [1280, 360])
def test_the_editor_grows_takes_snippets_and_submit_stays_in_view(
    width: int, site: Site, sign_in, desk
):
    desk([0])
    snippets = "snippets='## Refusal\\nNo, *sorry*.'"
    desks = "Project.objects.filter(slug='desk')"
    site.shell(f"from annotate.models import Project\n{desks}.update({snippets})")
    page = sign_in("alice", width=width).page
    open_next(page, site)
    editor, submit = page.locator("#id_text"), page.locator("#submit")
    low = editor.bounding_box()["height"]
    expect(submit).to_be_in_viewport(ratio=1)
    editor.fill("A line.\n" * 60)
    assert editor.bounding_box()["height"] > low + 300
    assert editor.evaluate("each => each.scrollHeight <= each.clientHeight + 2")
    expect(submit).to_be_in_viewport(ratio=1)
    editor.fill("Dear guest, ")
    page.get_by_text("Snippets").click()
    page.get_by_role("button", name="Insert").click()
    expect(editor).to_have_value("Dear guest, No, *sorry*.")
    expect(editor).to_be_focused()
    submit.click()
    expect_done(page)


def test_an_answer_is_corrected_by_keyboard_and_what_changed_is_shown(site: Site, sign_in, desk):
    desk([1])
    page = sign_in("alice").page
    open_next(page, site)
    editor = page.locator("#id_text")
    expect(editor).to_have_value(re.compile("^Answer 0 of 1"))
    editor.fill("Answer 0 of 2")
    page.locator("h1").click()  # out of the editor
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("p")
    expect(page.locator("#preview ins")).to_have_text("2")
    expect(editor).to_be_hidden()
    page.keyboard.press("p")
    expect(editor).to_be_visible()
    page.keyboard.press("Control+Enter")
    expect_done(page)
    assert newest(site, "edit").startswith("Answer 0 of 2")


def centre(place: Locator) -> tuple[float, float]:
    box = place.bounding_box()
    assert box
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page: Page, what: Locator, to: Locator) -> None:
    what.scroll_into_view_if_needed()
    page.mouse.move(*centre(what))
    page.mouse.down()
    page.mouse.move(*centre(to), steps=12)
    expect(to).to_have_class(re.compile("over"))
    page.mouse.up()
    expect(page.locator(".receiving")).to_have_count(0)


def test_by_dragging_letters_to_the_board(site: Site, sign_in, desk):
    desk([3, 2])
    page = sign_in("alice").page
    open_next(page, site)
    shelf = {n: page.locator(f'.shelf[data-tier="{n}"]') for n in range(4)}
    expect(page.locator("#board .token")).to_have_count(3)
    page.wait_for_function("() => window.Sortable")
    drag(page, page.locator('.completion[data-letter="A"] .token'), shelf[2])
    drag(page, page.locator('.completion[data-letter="B"] .token'), shelf[1])
    drag(page, page.locator('.completion[data-letter="C"] .token'), shelf[3])
    drag(page, page.locator('#board .token[data-token="C"]'), shelf[1])
    assert tiers(page) == ["2", "1", "1"]
    expect(shelf[1].locator(".token")).to_have_text(["B", "C"])
    page.get_by_role("button", name="Submit").last.click()
    # Of two, there is nothing to drag: each choice is a place to press.
    page.get_by_label("A much better").click()
    expect_done(page)
    assert stored(site)[-2:] == ["B=C > A  ranked", "A > B 4 ranked"]


def slide(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        places = [{"x": x, "y": y} for x, y in points]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    touch("touchStart", start)
    for step in range(1, 13):
        touch("touchMove", tuple(a + (b - a) * step / 12 for a, b in zip(start, end, strict=True)))
    touch("touchEnd")


def test_by_finger_on_a_phone(site: Site, sign_in, desk):
    desk([3, 2])
    page = sign_in("alice", width=360, has_touch=True, is_mobile=True).page
    open_next(page, site)
    page.wait_for_function("() => window.Sortable")
    assert page.evaluate("document.documentElement.scrollWidth <= 360")
    # A finger on the text scrolls the page; on a letter it carries the letter away.
    x, y = centre(page.locator('.completion[data-letter="A"] .prose'))
    slide(page, (x, y), (x, y - 150))
    page.wait_for_function("() => window.scrollY > 50")
    assert tiers(page) == ["", "", ""]
    letter = page.locator('#board .token[data-token="B"]')
    slide(page, centre(letter), centre(page.locator('.shelf[data-tier="1"]')))
    expect(page.locator("#said")).to_have_text("B is now tier 1")
    page.get_by_role("button", name="Move A down").tap()
    page.get_by_label("Tier of C").select_option("Tier 2")
    page.get_by_role("button", name="Submit").last.tap()
    expect(page.get_by_label("Equally good")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= 360")
    page.get_by_label("Equally good").tap()
    expect_done(page)
    assert stored(site)[-2:] == ["B > C > A  ranked", "A=B  ranked"]


def test_without_javascript(site: Site, sign_in, desk):
    desk([3, 2, 0])
    page = sign_in("alice", java_script_enabled=False).page
    open_next(page, site)
    for letter, tier in (("A", "Tier 3"), ("B", "Tier 1"), ("C", "Tier 1")):
        page.get_by_label(f"Tier of {letter}").select_option(tier)
    page.locator("#submit").click()
    assert newest(site) == "B=C > A  ranked"
    page.get_by_label("B slightly better").check(force=True)
    page.locator("#submit").click()
    assert newest(site) == "B > A 2 ranked"
    page.get_by_label("Your answer").fill("So that the *seasons* stay.")
    page.locator("#submit").click()
    expect_done(page)
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_label("Your answer")).to_have_value("So that the *seasons* stay.")
    page.locator("#submit").click()
    expect_done(page)
    assert newest(site, "write").startswith("So that the *seasons* stay.")


def test_ratings_order_the_answers_and_warn_of_a_contradiction(site: Site, sign_in, desk):
    desk([3])
    page = sign_in("alice").page
    open_next(page, site)
    for letter, rating in (("A", "2"), ("B", "7"), ("C", "2")):
        card = page.locator(f'.completion[data-letter="{letter}"]')
        card.get_by_label(rating, exact=True).check()
    assert tiers(page) == ["2", "1", "2"]
    expect(page.locator("#contradiction")).to_be_hidden()
    page.get_by_label("Tier of B").select_option("Tier 3")
    expect(page.locator("#contradiction")).to_contain_text("You ranked A above B")
    page.get_by_role("button", name="All bad").click()
    expect_done(page)
    assert newest(site).endswith("all_bad")


def test_a_pair_is_read_side_by_side_at_200_percent(site: Site, sign_in, desk):
    desk([2])
    page = sign_in("alice").page
    page.set_viewport_size({"width": 640, "height": 400})
    open_next(page, site)
    cards = page.locator(".completion")
    expect(cards).to_have_count(2)
    left, right = (cards.nth(n).bounding_box() for n in range(2))
    assert left and right and (left["y"], left["width"]) == (right["y"], right["width"])
    dock = page.locator("#work .dock").bounding_box()
    assert dock and dock["height"] <= 80, "of 400, which are all there is to read in"


def write_few_shot(page: Page) -> None:
    page.get_by_label("The instruction").fill("Name the colour.")
    page.get_by_role("button", name="Add a pair").click()
    expect(page.get_by_label("Query 4")).to_be_visible()
    for number in range(1, 5):
        page.get_by_label(f"Query {number}").fill(f"thing {number}")
        page.get_by_label(f"Response {number}").fill(f"colour {number}")


def test_a_prompt_of_ones_own_survives_a_reload_and_is_there_on_another_machine(
    site: Site, sign_in, desk
):
    desk([])
    site.shell("from annotate.models import Project\n"
               "Project.objects.filter(slug='desk').update(own_prompts='direct')")  # fmt: skip
    page = sign_in("alice").page
    page.goto(f"{site.url}/p/desk/my-prompts/?kind=few_shot")
    page.route("**/my-prompts/draft/**", lambda route: route.fulfill(body=""))
    write_few_shot(page)
    # The site heard nothing of it, so this browser has the only copy.
    page.goto(f"{site.url}/p/desk/my-prompts/?kind=few_shot")
    expect(page.get_by_label("The instruction")).to_have_value("")
    page.unroute("**/my-prompts/draft/**")
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_label("The instruction")).to_have_value("Name the colour.")
    expect(page.get_by_label("Response 4")).to_have_value("colour 4")
    page.get_by_label("Response 4").fill("colour four")
    page.get_by_label("Query 1").focus()
    expect(page.locator("#draft-state")).to_contain_text("Saved")
    elsewhere = sign_in("alice").page
    elsewhere.goto(f"{site.url}/p/desk/my-prompts/?kind=few_shot")
    expect(elsewhere.get_by_text("Draft restored")).to_be_visible()
    expect(elsewhere.get_by_label("Response 4")).to_have_value("colour four")
    elsewhere.get_by_role("button", name="Save prompt").click()
    expect(elsewhere.get_by_text("saved and in use")).to_be_visible()
    expect(elsewhere.get_by_label("The instruction")).to_have_value("")


# The page is read whole at this moment, and no module has run.
TYPE_AT_ONCE = """
document.addEventListener("readystatechange", () => {
  if (document.readyState !== "interactive" || sessionStorage.typed) return;
  sessionStorage.typed = "yes";
  document.querySelector("#own-prompt [name=instruction]").value = "Name the colour.";
});
"""


def test_what_is_typed_before_the_pages_script_is_there_is_kept(site: Site, sign_in, desk):
    desk([])
    site.shell("from annotate.models import Project\n"
               "Project.objects.filter(slug='desk').update(own_prompts='direct')")  # fmt: skip
    page = sign_in("alice").page
    page.add_init_script(TYPE_AT_ONCE)
    page.goto(f"{site.url}/p/desk/my-prompts/?kind=few_shot")
    expect(page.locator("#draft-state")).to_contain_text("Saved")
    page.reload()
    expect(page.get_by_text("Draft restored")).to_be_visible()
    expect(page.get_by_label("The instruction")).to_have_value("Name the colour.")


KEPT = "Object.keys(localStorage).filter((key) => key.startsWith('draft:'))"


@pytest.mark.parametrize("hears", [True, False], ids=["", "before the page's script is there"])
def test_signing_out_leaves_nothing_of_what_was_written_in_the_browser(
    site: Site, sign_in, desk, hears
):
    desk([])
    site.shell("from annotate.models import Project\n"
               "Project.objects.filter(slug='desk').update(own_prompts='direct')")  # fmt: skip
    page = sign_in("alice").page
    page.goto(f"{site.url}/p/desk/my-prompts/?kind=few_shot")
    person = page.locator("body").get_attribute("data-person")
    page.route("**/my-prompts/draft/**", lambda route: route.fulfill(body=""))
    write_few_shot(page)
    kept = page.evaluate(KEPT)
    assert kept and all(key.startswith(f"draft:{person}:") for key in kept)
    if not hears:
        page.locator("[data-sign-out]").evaluate("form => form.replaceWith(form.cloneNode(true))")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.wait_for_function(f"() => !({KEPT}).length")


def test_an_empty_answer_sent_from_its_preview_is_shown_to_be_empty(site: Site, sign_in, desk):
    desk([0])
    page = sign_in("alice").page
    open_next(page, site)
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_label("Your answer")).to_be_hidden()
    page.get_by_role("button", name="Submit").last.click()
    expect(page.get_by_label("Your answer")).to_be_focused()
