"""The header: every room is in view where there is room, and on a phone it keeps to two lines."""

import pytest

from tests.browser.conftest import Site

SET_UP = """
from annotate.models import Project
project = Project.objects.create(name="Kitchen helper", slug="header")
project.admit(name="olga", role="operator")
project.admit(name="alice", role="labeler")
project.publish_guideline(text="Be **brief**.", author=None)
"""
HEIGHT = "document.querySelector('.site-header').offsetHeight"
CUT = """() => { const rooms = document.querySelector(".site-header nav");
  return rooms.scrollWidth - rooms.clientWidth; }"""


@pytest.fixture(scope="module", autouse=True)
def header(site: Site) -> None:
    site.shell(SET_UP)


def test_an_operator_sees_every_room_at_1280(site: Site, sign_in):
    page = sign_in("olga").page
    # With a text on the page, the header has a switch more.
    for path in ("", "guideline/", "policies/", "chat/new/"):
        page.goto(f"{site.url}/p/header/{path}")
        assert page.evaluate(CUT) <= 0, path


def test_the_header_of_a_phone_has_two_lines(site: Site, sign_in):
    page = sign_in("alice", width=360).page
    page.goto(f"{site.url}/p/header/guideline/")
    page.get_by_role("button", name="Raw").wait_for()
    assert page.evaluate(HEIGHT) < 100
