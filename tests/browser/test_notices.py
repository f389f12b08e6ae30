"""An operator is told by a bell, with and without JavaScript, and by the browser once they ask."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import Site

SET_UP = """
from annotate.models import *
project, _ = Project.objects.get_or_create(slug="told", defaults={"name": "Kitchen helper"})
project.admit(name="olga", role="operator")
Notice.objects.filter(project=project).delete()
"""
TELL = """
from annotate.models import *
from annotate.notices.models import News
project = Project.objects.get(slug="told")
Notice.tell(project.pk, "run.state", News({subject!r}, "/p/told/guideline/"))
"""
# What the browser shows lies outside of the page.
LISTEN = """window.shown = [];
window.Notification = class extends Notification {
  constructor(subject, options) { super(subject, options); window.shown.push(subject); } };"""


@pytest.fixture(autouse=True)
def told(site: Site) -> None:
    site.shell(SET_UP)


def test_without_javascript_the_bell_leads_to_the_inbox(site: Site, sign_in):
    site.shell(TELL.format(subject="Round 1: SFT has ended"))
    page = sign_in("olga", java_script_enabled=False, width=360).page
    page.goto(f"{site.url}/p/told/")
    page.get_by_role("link", name="Notices: 1 new").click()
    expect(page.get_by_role("link", name="Round 1: SFT has ended")).to_be_visible()
    expect(page.get_by_role("button", name="Notify me")).to_be_hidden()
    page.get_by_role("button", name="Mark all seen").click()
    expect(page.get_by_role("link", name="Notices", exact=True).first).to_be_visible()
    page.get_by_role("link", name="Round 1: SFT has ended").click()
    page.wait_for_url("**/p/told/guideline/")


def test_the_browser_tells_of_what_is_new_only_once_it_is_asked_to(site: Site, sign_in):
    page = sign_in("olga").page
    page.context.grant_permissions(["notifications"], origin=site.url)
    page.add_init_script(LISTEN)
    polls = []
    page.on("request", lambda each: polls.append(each.url) if "/unseen/" in each.url else None)
    page.clock.install()
    page.goto(f"{site.url}/p/told/notices/")
    button = page.locator("#notify button")
    expect(button).to_have_text("Notify me in this browser")
    page.clock.run_for(120_000)
    assert polls == []
    with page.expect_response("**/unseen/"):
        button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    found = Axe().run(page).response["violations"]
    assert not [each["id"] for each in found if each["impact"] in ("serious", "critical")]
    site.shell(TELL.format(subject="Round 2: PPO is paused"))
    page.goto(f"{site.url}/p/told/guideline/")
    page.clock.run_for(29_000)
    assert len(polls) == 1
    page.clock.run_for(1_000)
    page.wait_for_function("() => window.shown.length === 1")
    assert page.evaluate("window.shown") == ["Round 2: PPO is paused"]
    expect(page.get_by_role("link", name="Notices: 1 new")).to_be_visible()
    with page.expect_response("**/unseen/"):
        page.clock.run_for(30_000)
    assert page.evaluate("window.shown.length") == 1, "told once"
    page.goto(f"{site.url}/p/told/notices/")
    button.click()
    expect(button).to_have_text("Notify me in this browser")
    polls.clear()
    page.clock.run_for(120_000)
    assert polls == []
