"""Whatever a labeler decides, however it is entered: the database holds what the page showed."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Site
from tests.browser.test_labelling import PREPARE, centre, drag, open_next, slide, tiers

# Outcome -> (key, the row). Who says "both bad" has chosen a better one before.
OF_TWO = {
    "A much better": ("1", "A > B ranked 4"), "A better": ("2", "A > B ranked 3"),
    "A slightly better": ("3", "A > B ranked 2"), "A barely better": ("4", "A > B ranked 1"),
    "Equally good": ("=", "A=B ranked"),
    "B barely better": ("5", "B > A ranked 1"), "B slightly better": ("6", "B > A ranked 2"),
    "B better": ("7", "B > A ranked 3"), "B much better": ("8", "B > A ranked 4"),
    "equal after another": ("=", "A=B ranked"),
    "both bad": ("b", "A > B all_bad"), "cannot judge two": ("", "skipped cannot_judge"),
    "skip two": ("", "skipped unclear"), "cannot judge after all": ("", "skipped cannot_judge"),
}  # fmt: skip
CHOSEN_BEFORE = {"equal after another": "A better", "both bad": "A better"}
ROWS = {name: (2, row) for name, (_, row) in OF_TWO.items()} | {
    "order": (3, "C > A > B ranked"),
    "tie": (3, "A=C > B ranked"),
    "all bad": (3, "C > A > B all_bad"),
    "cannot judge": (3, "skipped cannot_judge"),
    "skip": (3, "skipped unclear"),
}
CHOSEN = {"order": "231", "tie": "121", "all bad": "231", "cannot judge": "231", "skip": "231"}
CANNOT_JUDGE = ("cannot judge", "cannot judge two", "cannot judge after all")
WITH_A_REASON = ("skip", "skip two", "cannot judge after all")
BUTTONS = {
    "all bad": "All bad", "both bad": "Both bad", "skip": "Skip", "skip two": "Skip",
    **dict.fromkeys(CANNOT_JUDGE, "Can't judge"),
}  # fmt: skip
SENT_AT_ONCE = ("key", "click", "touch")  # of two: a press on the scale is the answer
NO_SENSE = {
    "key": dict.fromkeys(("all bad", "skip", "skip two", *CANNOT_JUDGE), "has no key of its own"),
    "Ctrl+Enter": dict.fromkeys(BUTTONS, "Ctrl+Enter is Submit and nothing else"),
    "rating": dict.fromkeys(OF_TWO, "of two there is a scale instead"),
    "drag": dict.fromkeys(OF_TWO, "of two there is nothing to drag"),
    "swipe": dict.fromkeys(OF_TWO, "of two there is nothing to drag"),
    "select": dict.fromkeys(OF_TWO, "of two there is no select"),
}
WAYS = (
    *("key", "rating", "click", "Enter", "Ctrl+Enter", "drag", "touch", "swipe", "select"),
    "no JavaScript",
)
SAID = """
from annotate.models import Assignment
done = Assignment.objects.filter(
    task__project__slug="desk", labeler__username="{name}", ended_at__isnull=False
)
for work in done.order_by("ended_at"):
    label = work.label
    if label is None:
        print(work.state, work.skip_reason)
    else:
        order = " > ".join("=".join(tier) for tier in label.tiers)
        print(order, label.outcome, *[label.strength] if label.strength else [])
"""


def prepare(site: Site, sizes: list[int], name: str, rated: bool = True) -> None:
    """Work of these sizes for one person, who has none so far, and nobody else's."""
    code = PREPARE.format(sizes=sizes).replace('"alice"', f'"{name}"')
    site.shell(f"{code}\nproject.rate_before_ranking = {rated}\nproject.save()")


@pytest.mark.parametrize("way", WAYS)
def test_what_the_page_shows_is_the_row_in_the_database(way: str, site: Site, sign_in):
    outcomes = [name for name in ROWS if name not in NO_SENSE.get(way, {})]
    name = "way-" + way.lower().replace("+", "-").replace(" ", "-")
    prepare(site, [ROWS[outcome][0] for outcome in outcomes], name, rated=way != "key")
    is_touch = way in ("touch", "swipe")
    phone = {"width": 360, "has_touch": True, "is_mobile": True} if is_touch else {}
    page = sign_in(name, java_script_enabled=way != "no JavaScript", **phone).page
    open_next(page, site)
    for outcome in outcomes:
        task = page.locator("#work").get_attribute("action")
        if outcome in OF_TWO:
            answer_of_two(page, way, outcome)
        else:
            answer_of_many(page, way, outcome)
        expect(page.locator(f'#work[action="{task}"]')).to_have_count(0)
    expect(page.get_by_role("heading", name="All done")).to_be_visible()
    rows = site.shell(SAID.format(name=name)).splitlines()
    assert dict(zip(outcomes, rows, strict=True)) == {each: ROWS[each][1] for each in outcomes}


def answer_of_two(page: Page, way: str, outcome: str) -> None:
    choose = CHOOSE_OF_TWO[way]
    if before := CHOSEN_BEFORE.get(outcome):
        task = page.locator("#work").get_attribute("action")
        choose(page, before)
        if way in SENT_AT_ONCE:
            expect(page.locator(f'#work[action="{task}"]')).to_have_count(0)
            page.keyboard.press("u")
            expect(page.locator(f'#work[action="{task}"]')).to_have_count(1)
            expect(page.get_by_label(before)).to_be_checked()
    if outcome in BUTTONS:
        return send(page, way, outcome)
    choose(page, "Equally good" if outcome == "equal after another" else outcome)
    if way not in SENT_AT_ONCE:
        send(page, way, outcome)


def answer_of_many(page: Page, way: str, outcome: str) -> None:
    places = CHOSEN[outcome]
    for letter, tier in zip("ABC", places, strict=True):
        PLACE.get(way, by_key)(page, letter, tier)
    assert "".join(tiers(page)) == places
    send(page, way, outcome)


def send(page: Page, way: str, outcome: str) -> None:
    button = page.get_by_role("button", name=BUTTONS.get(outcome, "Submit")).last
    if outcome in WITH_A_REASON:
        panel = page.locator("summary").get_by_text("Skip…")
        panel.click()
        page.get_by_label("The prompt is unclear").check()
        if outcome == "cannot judge after all":
            panel.click()  # it may lie over the button
    if way == "key" and outcome in OF_TWO:
        page.keyboard.press(OF_TWO[outcome][0])
    elif way in ("key", "Ctrl+Enter") or (way == "rating" and outcome not in BUTTONS):
        # Whichever button has the focus, this one is pressed.
        page.get_by_role("button", name="bad").focus()
        page.keyboard.press("Control+Enter")
    elif way == "Enter" and outcome in BUTTONS:
        button.press("Enter")
    elif way == "Enter":
        page.get_by_label("Why this order?").press("Enter")
    elif way in ("touch", "swipe"):
        button.tap()
    else:
        button.click()


def by_key(page: Page, letter: str, tier: str) -> None:
    """The digit is the tier of the answer one is at, and leads to the next."""
    expect(page.locator(".completion.current")).to_have_attribute("data-letter", letter)
    page.keyboard.press(tier)


def by_rating(page: Page, letter: str, tier: str) -> None:
    """The digit is the rating, and the order follows: 7 for the first tier, 5 for the third."""
    by_key(page, letter, str(8 - int(tier)))


def by_arrow(page: Page, option: str) -> None:
    """By arrow keys one moves on the scale, and nothing is sent yet."""
    task = page.locator("#work").get_attribute("action")
    page.get_by_label(option).focus()
    page.keyboard.press("Space")
    expect(page.get_by_label(option)).to_be_checked()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_label(option)).to_be_checked()
    expect(page.locator(f'#work[action="{task}"]')).to_have_count(1)


def by_click(page: Page, letter: str, tier: str) -> None:
    worse = page.get_by_role("button", name=f"Move {letter} down")
    page.get_by_role("button", name=f"Move {letter} up").click()
    for _ in range(int(tier) - 1):
        worse.click()


def by_tap(page: Page, letter: str, tier: str) -> None:
    page.wait_for_function("() => window.Sortable")
    page.locator(f'#board .token[data-token="{letter}"]').tap()
    page.locator(f'.shelf[data-tier="{tier}"]').tap(position={"x": 3, "y": 3})
    expect(page.get_by_label(f"Tier of {letter}")).to_have_value(tier)


def by_swipe(page: Page, letter: str, tier: str) -> None:
    page.wait_for_function("() => window.Sortable")
    token = page.locator(f'#board .token[data-token="{letter}"]')
    slide(page, centre(token), centre(page.locator(f'.shelf[data-tier="{tier}"]')))
    expect(page.get_by_label(f"Tier of {letter}")).to_have_value(tier)


def by_dragging(page: Page, letter: str, tier: str) -> None:
    page.wait_for_function("() => window.Sortable")
    token = page.locator(f'#board .token[data-token="{letter}"]')
    drag(page, token, page.locator(f'.shelf[data-tier="{tier}"]'))


def by_select(page: Page, letter: str, tier: str) -> None:
    page.get_by_label(f"Tier of {letter}").select_option(tier)


PLACE: dict[str, Callable[[Page, str, str], None]] = {
    "rating": by_rating, "click": by_click, "drag": by_dragging, "touch": by_tap,
    "swipe": by_swipe, "select": by_select, "no JavaScript": by_select, "Enter": by_select,
    "Ctrl+Enter": by_click,
}  # fmt: skip
CHOOSE_OF_TWO: dict[str, Callable[[Page, str], None]] = {
    "key": lambda page, option: page.keyboard.press(OF_TWO[option][0]),
    "click": lambda page, option: page.get_by_label(option).click(),
    "touch": lambda page, option: page.get_by_label(option).tap(),
    "Enter": by_arrow, "Ctrl+Enter": by_arrow,
    "no JavaScript": lambda page, option: page.get_by_label(option).check(force=True),
}  # fmt: skip


def card(page: Page, letter: str) -> Locator:
    return page.locator(f'.completion[data-letter="{letter}"]')


def ratings(page: Page) -> list[str]:
    return [each.get_attribute("value") or "" for each in page.locator(".rating :checked").all()]


def test_undo_takes_back_the_last_change_however_it_was_made(site: Site, sign_in):
    prepare(site, [3], "una")
    page = sign_in("una").page
    open_next(page, site)
    card(page, "A").get_by_label("5", exact=True).check()
    page.get_by_label("Tier of B").select_option("2")
    card(page, "C").focus()
    page.keyboard.press("x")
    assert (tiers(page), ratings(page)) == (["1", "2", "3"], ["5", "1"])
    page.keyboard.press("u")
    assert (tiers(page), ratings(page)) == (["1", "2", ""], ["5"])
    expect(page.locator("#said")).to_have_text("C is unranked")
    page.keyboard.press("u")
    assert (tiers(page), ratings(page)) == (["1", "", ""], ["5"])
    page.keyboard.press("u")
    page.keyboard.press("u")
    assert (tiers(page), ratings(page)) == (["", "", ""], [])


@pytest.mark.parametrize("rated, keys", [(False, "12u3"), (True, "76u5")])
def test_after_an_undo_the_next_digit_is_for_the_answer_that_was_undone(
    rated: bool, keys: str, site: Site, sign_in
):
    name = f"redo-{rated}".lower()
    prepare(site, [3], name, rated=rated)
    page = sign_in(name).page
    open_next(page, site)
    for key in keys:
        page.keyboard.press(key)
    expect(page.get_by_label("Tier of B")).to_have_value("2" if rated else "3")
    expect(page.get_by_label("Tier of C")).to_have_value("")
    if rated:
        expect(card(page, "B").get_by_label("5", exact=True)).to_be_checked()


def test_a_tie_names_the_answer_it_is_with_and_goes_on_to_the_next(site: Site, sign_in):
    prepare(site, [4], "tia", rated=False)
    page = sign_in("tia").page
    open_next(page, site)
    ties = page.get_by_role("button", name="Tie ")
    expect(ties).to_have_text(["A", "B", "C"])
    expect(page.get_by_role("button", name="Tie C with B")).to_have_attribute("title", "Tie with B")
    for key in ("1", "=", "2"):
        page.keyboard.press(key)
    assert tiers(page) == ["1", "1", "2", ""]
    page.keyboard.press("k")  # a tie of one that has its place leads nowhere
    page.keyboard.press("=")
    expect(card(page, "C")).to_be_focused()
    page.get_by_label("Tier of A").select_option("4")
    page.keyboard.press("s")
    expect(page.get_by_role("button", name="Tie A with C")).to_be_visible()
    expect(page.get_by_role("button", name="Tie B with")).to_have_count(0)
    expect(page.get_by_role("button", name="Tie C with B")).to_be_visible()


def test_a_held_key_and_one_press_too_many_leave_the_last_answer_as_it_is(site: Site, sign_in):
    prepare(site, [3, 3], "held", rated=False)
    page = sign_in("held").page
    open_next(page, site)
    first = page.locator("#work").get_attribute("action")
    for key in ("1", "2", "3", "Control+Enter"):
        page.keyboard.press(key)
    expect(page.locator(f'#work[action="{first}"]')).to_have_count(0)
    page.keyboard.press("u")
    expect(page.locator(f'#work[action="{first}"]')).to_have_count(1)
    page.keyboard.press("Control+Enter")
    expect(page.locator(f'#work[action="{first}"]')).to_have_count(0)
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    held = {"key": "u", "code": "KeyU", "bubbles": True, "repeat": True}
    page.locator("main").dispatch_event("keydown", held)
    for key in ("1", "u", "u", "2"):
        page.keyboard.press(key)
    expect(page.get_by_label("Tier of A")).to_have_value("2")
    expect(page.locator(f'#work[action="{first}"]')).to_have_count(0)
    assert site.shell(SAID.format(name="held")) == "A > B > C ranked"


def test_keys_work_while_a_select_has_the_focus_and_the_select_keeps_its_own(site: Site, sign_in):
    prepare(site, [3], "sela", rated=False)
    page = sign_in("sela").page
    open_next(page, site)
    select = page.get_by_label("Tier of B")
    select.select_option("1")
    select.focus()
    page.keyboard.press("Shift+ArrowDown")
    assert tiers(page) == ["", "2", ""]
    page.keyboard.press("ArrowUp")
    assert tiers(page) == ["", "1", ""]
    page.keyboard.press("3")
    assert tiers(page) == ["", "3", ""]
    expect(card(page, "C")).to_be_focused()


def test_six_are_rated_and_ranked_in_eight_presses_and_without_ratings_in_seven(site, sign_in):
    for rated, keys in ((True, ["5", "2", "6", "2", "4", "7", "Shift+ArrowUp"]),
                        (False, ["3", "5", "2", "6", "4", "1"])):  # fmt: skip
        name = f"swift-{rated}".lower()
        prepare(site, [6], name, rated=rated)
        page = sign_in(name).page
        open_next(page, site)
        for key in keys:
            page.keyboard.press(key)
        page.keyboard.press("Control+Enter")
        expect(page.get_by_role("heading", name="All done")).to_be_visible()
        row = "F > C > A > E > B > D ranked"
        assert site.shell(SAID.format(name=name)) == row


def test_the_order_follows_the_ratings_until_it_is_changed_by_hand(site: Site, sign_in):
    prepare(site, [3], "rate")
    page = sign_in("rate").page
    open_next(page, site)
    for key in ("2", "5", "2"):
        page.keyboard.press(key)
    assert tiers(page) == ["2", "1", "2"]
    expect(page.locator("#said")).to_have_text("All rated. A and C are tied")
    page.keyboard.press("7")  # of A, which is tied: now it is the best
    assert tiers(page) == ["1", "2", "3"]
    page.get_by_label("Tier of C").select_option("1")
    card(page, "B").get_by_label("1", exact=True).check()
    assert tiers(page) == ["1", "2", "1"]
    page.get_by_role("button", name="Order by my ratings").click()
    assert tiers(page) == ["1", "3", "2"]
    expect(page.get_by_role("button", name="Order by my ratings")).to_be_hidden()


def test_what_was_skipped_or_sent_comes_back_by_one_key(site: Site, sign_in):
    prepare(site, [3, 2], "back")
    page = sign_in("back").page
    open_next(page, site)
    page.keyboard.press("6")
    first = page.locator("#work").get_attribute("action")
    page.get_by_role("button", name="Can't judge").click()
    expect(page.get_by_text("Skipped")).to_be_visible()
    expect(page.locator(f'#work[action="{first}"]')).to_have_count(0)
    page.keyboard.press("u")
    expect(page.locator(f'#work[action="{first}"]')).to_have_count(1)
    assert (tiers(page), ratings(page)) == (["1", "", ""], ["6"])
    page.keyboard.press("4")
    page.keyboard.press("2")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Saved at")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(f'#work[action="{first}"]')).to_have_count(1)
    assert (tiers(page), ratings(page)) == (["1", "2", "3"], ["6", "4", "2"])


def test_a_double_click_on_the_scale_answers_one_task_only(site: Site, sign_in):
    prepare(site, [2, 2], "dora")
    page = sign_in("dora").page
    open_next(page, site)
    first = page.locator("#work").get_attribute("action")
    option = page.get_by_label("Equally good")
    x, y = centre(option)
    page.mouse.click(x, y)
    expect(page.locator(f'#work[action="{first}"]')).to_have_count(0)
    page.mouse.dblclick(x, y, delay=0)
    expect(page.get_by_role("heading", name="All done")).to_be_visible()
    page.wait_for_timeout(300)
    assert len(site.shell(SAID.format(name="dora")).splitlines()) == 2


def test_two_stand_side_by_side_with_their_differences_marked_and_all_in_my_order(site, sign_in):
    prepare(site, [3], "vera", rated=False)
    page = sign_in("vera").page
    open_next(page, site)
    shown = page.locator(".completion:visible")
    letters = "[...document.querySelectorAll('.completion')].map((each) => each.dataset.letter)"
    marked = "[...(CSS.highlights.get('differs') ?? [])].map(String)"
    page.keyboard.press("d")
    expect(shown).to_have_count(2)
    assert len(page.evaluate(marked)) == 12  # the number in each of six sentences, on both sides
    page.keyboard.press("Escape")
    expect(shown).to_have_count(3)
    assert page.evaluate(marked) == []
    page.get_by_label("Compare C with").select_option("B")
    expect(shown).to_have_count(2)
    numbers = {
        re.search(r"\d", card(page, each).locator(".prose").inner_text())[0] for each in "CB"
    }
    assert set(page.evaluate(marked)) == numbers and len(numbers) == 2
    page.get_by_label("Compare C with").select_option("")
    for key in ("1", "3", "2", "s"):  # of C, which is the one chosen last, then A and B
        page.keyboard.press(key)
    assert page.evaluate(letters) == ["C", "B", "A"]
    page.keyboard.press("u")  # the tier of B
    assert page.evaluate(letters) == ["C", "A", "B"]
    page.keyboard.press("s")
    assert page.evaluate(letters) == ["A", "B", "C"]


@pytest.mark.parametrize("width", [1280, 360])
def test_the_next_answer_is_shown_from_its_beginning_however_tall_it_is(
    width: int, site: Site, sign_in
):
    prepare(site, [3], f"tall{width}")
    site.shell(
        "from annotate.models import Completion\n"
        "for each in Completion.objects.filter(tasks__project__slug='desk').order_by('-pk')[:3]:\n"
        "    each.text = f'Beginning {each.pk}. ' + 'A long answer follows. ' * 400\n"
        "    each.save()\n"
    )
    page = sign_in(f"tall{width}", width=width).page
    open_next(page, site)
    for letter, key in (("A", "j"), ("B", "j"), ("C", "j"), ("B", "k")):
        page.keyboard.press(key)
        expect(card(page, letter)).to_be_focused()
        assert page.evaluate(IS_UNCOVERED, f'.completion[data-letter="{letter}"] .token')
    # Sixteen lines of each, until all is asked for.
    text = card(page, "B").locator(".prose")
    cut = text.bounding_box()["height"]
    page.get_by_role("button", name="Show all of B").click()
    assert text.bounding_box()["height"] > 2 * cut
    page.keyboard.press("Shift+O")
    assert card(page, "A").locator(".prose").bounding_box()["height"] > 2 * cut


# Seen means: what is at this point of the screen is the letter itself, nothing laid over it.
IS_UNCOVERED = """(selector) => {
  const letter = document.querySelector(selector);
  const { left, top } = letter.getBoundingClientRect();
  return letter.contains(document.elementFromPoint(left + 9, top + 9));
}"""
