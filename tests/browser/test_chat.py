"""The chat in a real browser, with a model server that writes when it is told to."""

import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Site
from tests.model_server import ModelServer, serving

SET_UP = """
from annotate.models import Policy, Project
project, _ = Project.objects.get_or_create(slug="kitchen-talk", defaults=dict(name="Kitchen talk"))
project.admit(name="{name}", role="guest")
policy, _ = Policy.objects.get_or_create(
    project=project, name="cook",
    defaults=dict(origin="external", model_name="cook-1", endpoint="{endpoint}"),
)
policy.go_live()
"""


@pytest.fixture
def model(site: Site) -> Iterator[ModelServer]:
    with serving(ModelServer(), urlsplit(site.endpoint).port or 0) as script:
        yield script


@pytest.fixture
def guest(site: Site, sign_in, model: ModelServer) -> Callable[..., Page]:
    """guest("gina") opens a new chat; somebody new each time."""

    def come(name: str, **options) -> Page:
        site.shell(SET_UP.format(name=name, endpoint=site.endpoint))
        page = sign_in(name, **options).page
        page.goto(f"{site.url}/p/kitchen-talk/chat/new/")
        return page

    return come


def say(page: Page, text: str) -> None:
    page.get_by_label("Your message").fill(text)
    page.keyboard.press("Enter")
    expect(page.locator(".turn", has_text=text)).to_be_visible()


def fits(page: Page) -> None:
    """No line is wider than the window."""
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_what_is_typed_is_kept_until_it_is_sent(guest):
    page = guest("keeps")
    message = page.get_by_label("Your message")
    expect(message).to_be_focused()
    low = message.bounding_box()
    page.keyboard.type("One line")
    for _ in range(3):
        page.keyboard.press("Shift+Enter")
    page.keyboard.type("and another")
    high = message.bounding_box()
    assert low and high and high["height"] > low["height"] + 40
    page.reload()
    expect(message).to_have_value("One line\n\n\nand another")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Good answer")).to_be_visible()
    expect(message).to_have_value("")
    expect(message).to_be_focused()
    page.reload()
    expect(message).to_have_value("")
    # Each chat has a text of its own.
    message.fill("For this chat alone")
    page.get_by_role("link", name="New chat").click()
    expect(message).to_have_value("")
    page.go_back()
    expect(message).to_have_value("For this chat alone")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in/**")
    kept = page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('draft:'))")
    assert kept == []


def test_what_is_typed_while_a_message_is_sent_is_kept(guest, model: ModelServer):
    page = guest("writes-on")
    say(page, "How do I boil an egg?")
    expect(page.get_by_role("button", name="Good answer")).to_be_visible()
    message = page.get_by_label("Your message")
    held: list[Route] = []
    page.route("**/send/", lambda route: held.append(route), times=1)
    message.fill("And how hot?")
    with page.expect_request("**/send/"):
        message.press("Enter")
    expect(message).to_have_value("")
    message.fill("With salt?")
    held.pop().continue_()
    expect(page.get_by_role("button", name="Good answer")).to_have_count(2)
    expect(message).to_have_value("With salt?")
    page.reload()
    expect(message).to_have_value("With salt?")


def test_a_message_that_is_refused_comes_back(site: Site, sign_in, model: ModelServer):
    site.shell(SET_UP.format(name="hurries", endpoint=site.endpoint))
    person = sign_in("hurries")
    page = person.page
    page.goto(f"{site.url}/p/kitchen-talk/chat/new/")
    say(page, "How do I boil an egg?")
    expect(page.get_by_role("button", name="Good answer")).to_be_visible()
    other = page.context.new_page()
    other.goto(page.url)
    model.waits = True
    say(other, "And a goose's?")
    held: list[Route] = []
    page.route("**/send/", lambda route: held.append(route), times=1)
    message = page.get_by_label("Your message")
    message.fill("And how hot?")
    with page.expect_request("**/send/"):
        message.press("Enter")
    message.fill("With salt?")
    held.pop().continue_()
    expect(page.get_by_text("The last answer is still being written.")).to_be_visible()
    expect(message).to_have_value("And how hot?\nWith salt?")
    page.reload()
    expect(message).to_have_value("And how hot?\nWith salt?")
    person.errors.clear()  # of the console, which calls a refusal one


@pytest.mark.parametrize("by", ["button", "key"])
def test_stop_takes_the_place_of_send(guest, model: ModelServer, by: str):
    model.waits = True
    page = guest(f"stops-by-{by}")
    say(page, "How do I boil an egg?")
    expect(page.locator(".streaming")).to_contain_text("Boil it")
    stop = page.get_by_role("button", name="Stop", exact=True)
    expect(stop).to_have_count(1)
    expect(page.get_by_role("button", name="Send")).to_have_count(0)
    message = page.get_by_label("Your message")
    message.fill("Next")
    message.press("Enter")
    expect(message).to_have_value("Next")
    if by == "button":
        stop.click()
    else:
        message.press("Escape")
    expect(page.get_by_text("You stopped this answer.")).to_be_visible()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(stop).to_have_count(0)
    expect(message).to_have_value("Next")


def test_one_button_leads_to_the_end(guest, model: ModelServer):
    model.says = [f"Line {number}.\n\n" for number in range(80)]
    page = guest("scrolls")
    say(page, "How do I boil an egg?")
    expect(page.get_by_role("button", name="Good answer")).to_be_in_viewport()
    jump = page.get_by_role("button", name="Jump to the end")
    expect(jump).to_be_hidden()
    page.evaluate("scrollTo(0, 0)")
    jump.click()
    expect(page.get_by_role("button", name="Good answer")).to_be_in_viewport()
    expect(jump).to_be_hidden()


def test_single_keys_and_the_list_of_them(guest, model: ModelServer):
    page = guest("types")
    say(page, "How do I boil an egg?")
    expect(page.get_by_role("button", name="Good answer")).to_be_visible()
    message = page.get_by_label("Your message")
    expect(message).to_be_focused()
    page.keyboard.type("?r")
    expect(message).to_have_value("?r")
    page.keyboard.press("Escape")
    expect(message).not_to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("r")
    expect(page.get_by_text("2/2")).to_be_visible()
    page.keyboard.press("/")
    expect(message).to_be_focused()
    expect(message).to_have_value("?r")
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    page.wait_for_url("**/chat/new/")
    page.get_by_role("button", name="Shortcuts").click()
    page.get_by_label("Use single-key shortcuts").uncheck()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("/")
    expect(message).not_to_be_focused()


ANSWER = (
    """# Boiling eggs

Put **two** eggs into water, and take \\(t = 8\\) minutes of your time. """
    + "Stir it gently. " * 12
    + """

1. Fill a pot
2. Bring it to the boil
   - with salt
   - or without

| size | minutes |
|---|---|
| small | 6 |
| large | 9 |

```python
def boil(egg: str, minutes: int = 8) -> str:
    return f"{egg} boiled for {minutes} minutes"
```

> Cold water stops it.

$$ Q = m c \\Delta T $$

"""
    + "And then another paragraph that is long enough to wrap on any screen. " * 6
)
WATCH = """
window.moved = 0; window.seen = []; window.kept = null;
new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) window.moved += entry.value;
}).observe({type: "layout-shift", buffered: true});
new MutationObserver(() => {
    const title = document.querySelector(".streaming h1:not(:last-child)");
    window.kept ??= title;
    if (title) window.seen.push(title === window.kept);
}).observe(document, {subtree: true, childList: true});
"""


@pytest.mark.parametrize("width", [1280, 360])
def test_an_answer_is_rendered_while_it_is_written_and_nothing_moves(
    guest, model: ModelServer, width: int
):
    model.says = re.findall(r"\s*\S+|\s+\Z", ANSWER)
    assert len(model.says) > 150 and "".join(model.says) == ANSWER
    model.seconds_between = 0.02
    page = guest(f"watches-{width}", width=width)
    say(page, "An older question")
    expect(page.get_by_role("button", name="Good answer")).to_be_visible()
    page.reload()
    page.evaluate(WATCH)
    say(page, "How do I boil an egg?")
    growing = page.locator(".streaming")
    expect(growing.locator("h1")).to_have_text("Boiling eggs")
    expect(growing.locator("td", has_text="small")).to_be_visible()
    expect(page.get_by_role("button", name="Good answer")).to_have_count(2)
    assert page.evaluate("window.moved") < 0.1
    kept = page.evaluate("window.seen")
    assert len(kept) > 10 and all(kept), "the heading was finished, and was made anew"
    answer = page.get_by_role("article", name="Answer").last
    expect(answer.locator("math")).to_have_count(2)
    expect(answer.locator(".language")).to_have_text("python")
    fits(page)


# To write to the clipboard takes its time.
IS_COPIED = "async (text) => await navigator.clipboard.readText() === text"


def test_code_and_answers_are_copied_as_they_were_written(guest, model: ModelServer, sign_in):
    model.says = ["Do **this**:\n\n```python\nboil()\n```\n"]
    page = guest("copies", permissions=["clipboard-read", "clipboard-write"])
    say(page, "How do I boil an egg?")
    expect(page.get_by_role("button", name="Good answer")).to_be_visible()
    page.get_by_role("button", name="Copy", exact=True).click()
    page.wait_for_function(IS_COPIED, arg=model.says[0])
    page.get_by_role("button", name="Copy the code").click()
    page.wait_for_function(IS_COPIED, arg="boil()\n")


def test_a_question_is_edited_and_both_versions_are_kept(guest, model: ModelServer):
    page = guest("edits")
    say(page, "How do I boil an egg?")
    expect(page.get_by_role("button", name="Good answer")).to_be_visible()
    say(page, "And how hot?")
    expect(page.get_by_role("button", name="Good answer")).to_have_count(2)
    model.says = ["Ask a goose."]
    first = page.locator(".turn").first
    first.locator(".edit > summary").click()
    question = first.get_by_label("Your question")
    expect(question).to_be_focused()
    expect(question).to_have_value("How do I boil an egg?")
    question.fill("How do I boil a goose's egg?")
    page.locator(".edit[open]").get_by_role("button", name="Send").click()
    expect(page.get_by_text("Ask a goose.")).to_be_visible()
    expect(page.locator(".turn")).to_have_count(1)
    page.get_by_role("button", name="Previous version").click()
    expect(page.locator(".turn")).to_have_count(2)
    expect(page.get_by_text("And how hot?").first).to_be_visible()
    # The arrow up in an empty message opens the last one.
    page.get_by_label("Your message").press("ArrowUp")
    expect(page.get_by_label("Your question").last).to_be_focused()
    expect(page.get_by_label("Your question").last).to_have_value("And how hot?")


def test_a_follow_up_belongs_to_the_branch_on_screen(guest, model: ModelServer):
    page = guest("follows")
    say(page, "How do I boil an egg?")
    expect(page.get_by_role("button", name="Good answer")).to_be_visible()
    other = page.context.new_page()
    other.goto(page.url)
    other.locator(".edit > summary").click()
    other.get_by_label("Your question").fill("How do I boil a goose's egg?")
    other.locator(".edit[open]").get_by_role("button", name="Send").click()
    expect(other.get_by_text("2/2")).to_be_visible()
    expect(other.get_by_role("button", name="Good answer")).to_be_visible()
    say(page, "And how hot?")
    expect(page.get_by_role("button", name="Good answer")).to_have_count(2)
    say(page, "With salt?")
    expect(page.get_by_role("button", name="Good answer")).to_have_count(3)
    page.reload()
    expect(page.get_by_text("1/2")).to_be_visible()
    expect(page.locator(".turn")).to_have_count(3)


REASONS = """
from annotate.models import Feedback
thumb = Feedback.objects.get(user__username="{name}")
print(thumb.reasons, repr(thumb.note), repr(thumb.wanted_answer))
"""


@pytest.mark.parametrize("width", [1280, 360])
def test_reasons_are_saved_as_they_are_tapped_and_the_panel_hides_nothing(
    guest, model: ModelServer, site: Site, width: int
):
    name = f"taps-{width}"
    page = guest(name, width=width)
    say(page, "How do I boil an egg?")
    page.get_by_role("button", name="Bad answer").click()
    wanted = page.get_by_label("Show the answer you wanted")
    wanted.fill("Half a sen")
    page.get_by_label("Too long").check()
    expect(page.get_by_text("Saved")).to_be_visible()
    # A sentence that is still being written is no answer anybody wanted.
    assert site.shell(REASONS.format(name=name)).splitlines()[-1] == "['too_long'] '' ''"
    expect(wanted).to_have_value("Half a sen")
    boxes = {}
    answer = page.get_by_role("article", name="Answer")
    for what in (".prose", ".thumbs > .row button", ".why"):
        boxes[what] = answer.locator(what).first.bounding_box()
    prose, buttons, why = boxes.values()
    assert prose["y"] + prose["height"] <= buttons["y"]
    assert buttons["y"] + buttons["height"] <= why["y"]
    fits(page)
    wanted.fill("Half a sentence.")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Thanks for the feedback.")).to_be_visible()
    said = "['too_long'] '' 'Half a sentence.'"
    assert site.shell(REASONS.format(name=name)).splitlines()[-1] == said
    page.reload()
    expect(page.get_by_label("Too long")).to_be_checked()


def test_every_reason_that_is_tapped_is_saved(guest, model: ModelServer):
    page = guest("taps-on")
    say(page, "How do I boil an egg?")
    page.get_by_role("button", name="Bad answer").click()
    for reason in ("Too long", "Style", "Harmful"):
        with page.expect_response("**/reasons/"):
            page.get_by_label(reason).check()
        expect(page.get_by_text("Saved")).to_have_count(1)
    page.reload()
    for reason in ("Too long", "Style", "Harmful"):
        expect(page.get_by_label(reason)).to_be_checked()


SAVE_IS_ABOVE = """() => {
    const [save, foot] = [".why > .save", ".talk-foot"].map(
        (each) => document.querySelector(each)?.getBoundingClientRect());
    return save && save.top > 0 && save.bottom <= foot.top;
}"""


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_after_a_thumb_down_the_composer_covers_no_save(
    guest, model: ModelServer, width: int, height: int
):
    model.says = [f"Line {number}.\n\n" for number in range(40)]
    page = guest(f"sees-{width}", width=width)
    page.set_viewport_size({"width": width, "height": height})
    say(page, "How do I boil an egg?")
    page.get_by_role("button", name="Bad answer").click()
    page.wait_for_function(SAVE_IS_ABOVE)


def test_own_words_are_kept_until_they_are_saved(guest, model: ModelServer):
    page = guest("explains")
    say(page, "How do I boil an egg?")
    good, bad = (page.get_by_role("button", name=f"{which} answer") for which in ("Good", "Bad"))
    note, wanted = page.get_by_label("Comment"), page.get_by_label("Show the answer you wanted")
    bad.click()
    wanted.fill("Half a sentence.")
    page.get_by_role("button", name="Regenerate").click()
    expect(page.get_by_text("2/2")).to_be_visible()
    expect(wanted).to_have_count(0)
    page.get_by_role("button", name="Previous draft").click()
    expect(wanted).to_have_value("Half a sentence.")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Thanks for the feedback.")).to_be_visible()
    # Each thumb has words of its own.
    good.click()
    expect(wanted).to_have_count(0)
    page.get_by_text("Tell us more").click()
    note.fill("As my mother does it.")
    bad.click()
    expect(wanted).to_have_value("Half a sentence.")
    expect(note).to_have_value("")
    good.click()
    expect(note).to_have_value("As my mother does it.")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Thanks for the feedback.")).to_be_visible()
    page.reload()
    expect(note).to_have_value("As my mother does it.")


def test_an_answer_that_failed_is_retried(guest, model: ModelServer):
    model.status = 500
    person = guest("retries")
    say(person, "How do I boil an egg?")
    retry = person.get_by_role("button", name="Retry")
    expect(retry).to_be_visible()
    model.status = 200
    retry.click()
    expect(person.get_by_role("button", name="Good answer")).to_be_visible()
    expect(person.get_by_text("/2")).to_have_count(0)
    expect(retry).to_have_count(0)
