"""Whatever a labeler decides, however it is entered: the database holds what the page showed."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Site
from tests.browser.test_labelling import PREPARE, centre, drag, open_next, slide, tiers

A_BETTER, B_BETTER = "A is better", "B is better"
# Outcome -> (number of answers, the row). Who sends "both bad" has chosen a better one before.
ROWS = {
    "order of two": (2, "B > A ranked"),
    "tie of two": (2, "A=B ranked"),
    "strength 1": (2, "A > B ranked 1"),
    "strength 2": (2, "A > B ranked 2"),
    "strength 3": (2, "A > B ranked 3"),
    "strength 4": (2, "A > B ranked 4"),
    "tie after a strength": (2, "A=B ranked"),
    "both bad": (2, "A > B all_bad"),
    "cannot judge two": (2, "skipped cannot_judge"),
    "order": (3, "C > A > B ranked"),
    "tie": (3, "A=C > B ranked"),
    "all bad": (3, "C > A > B all_bad"),
    "cannot judge": (3, "skipped cannot_judge"),
}
CHOSEN = {"order": "231", "tie": "121", "all bad": "231", "cannot judge": "231"}
OF_TWO = {
    "order of two": [B_BETTER], "tie of two": ["Equally good"],
    "strength 1": [A_BETTER, "negligibly"], "strength 2": [A_BETTER, "slightly"],
    "strength 3": [A_BETTER, "clearly"], "strength 4": [A_BETTER, "significantly"],
    "tie after a strength": [A_BETTER, "clearly", "Equally good"],
    "both bad": [A_BETTER, "clearly"], "cannot judge two": [A_BETTER],
}  # fmt: skip
KEYS = {
    A_BETTER: "ArrowLeft", B_BETTER: "ArrowRight", "Equally good": "ArrowDown",
    "negligibly": "1", "slightly": "2", "clearly": "3", "significantly": "4",
}  # fmt: skip
BUTTONS = {"all bad": "All bad", "both bad": "Both bad"} | dict.fromkeys(
    ("cannot judge", "cannot judge two"), "Can't judge"
)
WITH_A_KEY = {"both bad": "b"}
NO_SENSE = {
    "key": {name: "only both bad is sent by a letter" for name in ROWS if name not in WITH_A_KEY},
    "Ctrl+Enter": dict.fromkeys(BUTTONS, "Ctrl+Enter is Submit and nothing else"),
    "drag": dict.fromkeys(OF_TWO, "of two there is nothing to drag"),
    "select": dict.fromkeys(OF_TWO, "of two there is no select"),
}
WAYS = ("key", "click", "Enter", "Ctrl+Enter", "drag", "touch", "select", "no JavaScript")
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


def prepare(site: Site, sizes: list[int], name: str) -> None:
    """Work of these sizes for one person, who has none so far, and nobody else's."""
    site.shell(PREPARE.format(sizes=sizes).replace('"alice"', f'"{name}"'))


@pytest.mark.parametrize("way", WAYS)
def test_what_the_page_shows_is_the_row_in_the_database(way: str, site: Site, sign_in):
    outcomes = [name for name in ROWS if name not in NO_SENSE.get(way, {})]
    name = "way-" + way.lower().replace("+", "-").replace(" ", "-")
    prepare(site, [ROWS[outcome][0] for outcome in outcomes], name)
    phone = {"width": 360, "has_touch": True, "is_mobile": True} if way == "touch" else {}
    page = sign_in(name, java_script_enabled=way != "no JavaScript", **phone).page
    open_next(page, site)
    for outcome in outcomes:
        task = page.locator("#work").get_attribute("action")
        choose(page, way, outcome)
        send(page, way, outcome)
        expect(page.locator(f'#work[action="{task}"]')).to_have_count(0)
    expect(page.get_by_role("heading", name="All done")).to_be_visible()
    rows = site.shell(SAID.format(name=name)).splitlines()
    assert dict(zip(outcomes, rows, strict=True)) == {each: ROWS[each][1] for each in outcomes}


def choose(page: Page, way: str, outcome: str) -> None:
    if outcome in OF_TWO:
        for option in OF_TWO[outcome]:
            CHOOSE_OF_TWO.get(way, by_key_of_two)(page, option)
        return
    places = CHOSEN[outcome]
    for letter, tier in zip("ABC", places, strict=True):
        PLACE.get(way, by_key)(page, letter, tier)
    assert "".join(tiers(page)) == places


def send(page: Page, way: str, outcome: str) -> None:
    button = page.get_by_role("button", name=BUTTONS.get(outcome, "Submit"), exact=True).last
    if way == "key":
        page.keyboard.press(WITH_A_KEY[outcome])
    elif way == "Enter" and outcome in BUTTONS:
        button.press("Enter")
    elif way == "Enter":
        page.get_by_label("Why this order?").press("Enter")
    elif way == "Ctrl+Enter":
        # Whichever button has the focus, this one is pressed.
        page.get_by_role("button", name="bad").focus()
        page.keyboard.press("Control+Enter")
    elif way == "touch":
        button.tap()
    else:
        button.click()


def by_key_of_two(page: Page, option: str) -> None:
    page.keyboard.press(KEYS[option])


def by_key(page: Page, letter: str, tier: str) -> None:
    page.keyboard.press("j")
    expect(card(page, letter)).to_be_focused()
    page.keyboard.press(tier)


def by_click(page: Page, letter: str, tier: str) -> None:
    worse = page.get_by_role("button", name=f"Move {letter} down")
    page.get_by_role("button", name=f"Move {letter} up").click()
    for _ in range(int(tier) - 1):
        worse.click()


def by_tap(page: Page, letter: str, tier: str) -> None:
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


def by_label(page: Page, option: str) -> None:
    page.get_by_label(option).check(force=True)


PLACE: dict[str, Callable[[Page, str, str], None]] = {
    "click": by_click, "drag": by_dragging, "touch": by_tap, "select": by_select,
    "no JavaScript": by_select,
}  # fmt: skip
CHOOSE_OF_TWO: dict[str, Callable[[Page, str], None]] = {
    "click": lambda page, option: page.get_by_label(option).click(),
    "touch": lambda page, option: page.get_by_label(option).tap(),
    "no JavaScript": by_label,
}


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
    assert (tiers(page), ratings(page)) == (["", "2", "3"], ["5", "1"])
    page.keyboard.press("u")
    assert (tiers(page), ratings(page)) == (["", "2", ""], ["5"])
    expect(page.locator("#said")).to_have_text("C is unranked")
    page.keyboard.press("u")
    assert (tiers(page), ratings(page)) == (["", "", ""], ["5"])
    page.keyboard.press("u")
    page.keyboard.press("u")
    assert (tiers(page), ratings(page)) == (["", "", ""], [])


def test_keys_work_while_a_select_has_the_focus_and_the_select_keeps_its_own(site: Site, sign_in):
    prepare(site, [3], "sela")
    page = sign_in("sela").page
    open_next(page, site)
    select = page.get_by_label("Tier of B")
    select.select_option("1")
    select.focus()
    page.keyboard.press("3")
    assert tiers(page) == ["", "3", ""]
    page.keyboard.press("Shift+ArrowUp")
    assert tiers(page) == ["", "2", ""]
    page.keyboard.press("ArrowUp")
    assert tiers(page) == ["", "1", ""]
    page.keyboard.press("j")
    expect(card(page, "C")).to_be_focused()


def test_of_equally_good_answers_no_strength_can_be_chosen(site: Site, sign_in):
    prepare(site, [2], "tina")
    page = sign_in("tina").page
    open_next(page, site)
    strength = page.locator(".strength")
    for key in ("ArrowLeft", "3"):
        page.keyboard.press(key)
    expect(strength).to_be_visible()
    page.keyboard.press("ArrowDown")
    expect(strength).to_be_hidden()
    page.keyboard.press("4")
    page.keyboard.press("ArrowRight")
    expect(strength).to_be_visible()
    expect(page.get_by_label("clearly")).to_be_checked()
    page.keyboard.press("u")
    expect(page.get_by_label("Equally good")).to_be_checked()


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


# Seen means: what is at this point of the screen is the letter itself, nothing laid over it.
IS_UNCOVERED = """(selector) => {
  const letter = document.querySelector(selector);
  const { left, top } = letter.getBoundingClientRect();
  return letter.contains(document.elementFromPoint(left + 9, top + 9));
}"""
