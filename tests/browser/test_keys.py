"""Single keys work on the keyboard people have, never while they compose, and can be turned off."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site
from tests.browser.test_labelling import desk as rated_desk
from tests.browser.test_labelling import open_next, tiers

__all__ = ["rated_desk"]


@pytest.fixture
def desk(site: Site, rated_desk: Callable[[list[int]], None]) -> Callable[[list[int]], None]:
    """Without ratings: a digit is a tier."""

    def prepare(sizes: list[int]) -> None:
        rated_desk(sizes)
        desks = "Project.objects.filter(slug='desk')"
        site.shell(f"from annotate.models import *\n{desks}.update(rate_before_ranking=False)")

    return prepare


def press(page: Page, key: str, code: str, **more: object) -> None:
    """Presses a key of another layout: `key` is what stands on it, `code` its place (WebDriver)."""
    event = {"key": key, "code": code, "bubbles": True, "cancelable": True, **more}
    page.dispatch_event("main", "keydown", event)


LAYOUTS = {
    "latin": [("j", "KeyJ", {}), ("2", "Digit2", {})],
    "russian": [("о", "KeyJ", {}), ("2", "Digit2", {})],
    "greek": [("ξ", "KeyJ", {}), ("2", "Digit2", {})],
    "arabic": [("ت", "KeyJ", {}), ("٢", "Digit2", {})],
    "azerty": [("j", "KeyJ", {}), ("é", "Digit2", {})],
    "azerty with shift": [("j", "KeyJ", {}), ("2", "Digit2", {"shiftKey": True})],
    "keypad": [("j", "KeyJ", {}), ("2", "Numpad2", {})],
    "dvorak": [("j", "KeyC", {}), ("2", "Digit2", {})],
}


def test_keys_are_found_on_every_layout(site: Site, sign_in, desk):
    desk([3])
    page = sign_in("alice").page
    for layout, presses in LAYOUTS.items():
        open_next(page, site)
        for key, code, more in presses:
            press(page, key, code, **more)
        assert tiers(page)[0] == "2", layout
        press(page, "г" if layout == "russian" else "u", "KeyU")
        assert tiers(page)[0] == "", layout


@pytest.mark.parametrize("more", [{"isComposing": True}, {"keyCode": 229}])
def test_nothing_happens_while_a_character_is_composed(site: Site, sign_in, desk, more):
    desk([3])
    page = sign_in("alice").page
    open_next(page, site)
    press(page, "j", "KeyJ")
    press(page, "2", "Digit2", **more)
    assert tiers(page)[0] == ""


def test_single_keys_can_be_switched_off(site: Site, sign_in, desk):
    desk([3])
    page = sign_in("alice").page
    open_next(page, site)
    page.keyboard.press("?")
    page.get_by_label("Use single-key shortcuts").uncheck()
    page.get_by_role("button", name="Close").click()
    press(page, "j", "KeyJ")
    press(page, "2", "Digit2")
    assert tiers(page)[0] == ""
    page.reload()
    press(page, "j", "KeyJ")
    press(page, "2", "Digit2")
    assert tiers(page)[0] == ""
    page.keyboard.press("?")
    page.get_by_label("Use single-key shortcuts").check()
    page.get_by_role("button", name="Close").click()
    press(page, "j", "KeyJ")
    press(page, "2", "Digit2")
    expect(page.locator(".tier select").first).to_have_value("2")
