"""Requests that fail: signed out, signed in as somebody else, offline. Nothing typed is lost, no
sign-in page lands in the page, and what was sent is sent again once it can be."""

import json

from playwright.sync_api import Page, expect

from tests.browser.conftest import Site
from tests.browser.test_labelling import open_next
from tests.browser.test_ways_to_submit import SAID, prepare

TALK = """
import json
from annotate.models import Conversation, Message, Project
from annotate.projects import base_policy
project = Project.objects.create(name="Talk", slug="talk")
gus = project.admit(name="gina", role="guest")
base_policy(project, "tiny")
said = Conversation.start(project=project, guest=gus, text="What is rice?")
Message.objects.filter(pk=said.pk).update(state="done", text="A grain.", finish_reason="stop")
print(json.dumps(said.conversation_id))
"""
HEARD = """
import json
from annotate.models import Feedback, Message
print(json.dumps([
    Message.objects.filter(conversation__guest__username="gina", text="And wheat?").count(),
    Feedback.objects.filter(user__username="gina", thumb_up=True).count(),
]))
"""


def sign_out(site: Site, page: Page) -> None:
    """As it happens over night: the site no longer knows the session, the browser keeps its key."""
    key = next(each["value"] for each in page.context.cookies() if each["name"] == "sessionid")
    site.shell(
        "from django.contrib.sessions.models import Session\n"
        f"assert Session.objects.filter(session_key={key!r}).delete()[0]"
    )


def sign_in_elsewhere(site: Site, page: Page, name: str) -> None:
    other = page.context.new_page()
    other.goto(site.manage("login_link", name))
    other.get_by_role("button", name="Sign in").click()
    expect(other.get_by_role("button", name="Sign out")).to_be_visible()
    other.wait_for_load_state()  # its script is what tells the other tabs
    other.close()


def expect_told(page: Page, words: str) -> None:
    """Within the window, and over no button of the form."""
    toast = page.locator("#failed")
    expect(toast).to_contain_text(words)
    expect(toast).to_be_in_viewport(ratio=1)
    assert page.evaluate(IS_OVER_NO_BUTTON)
    expect(page.get_by_role("heading", name="Sign in")).to_have_count(0)


IS_OVER_NO_BUTTON = """() => {
  const toast = document.getElementById("failed").getBoundingClientRect();
  return [...document.querySelectorAll("#submit, .send")].every((button) => {
    const { top, bottom } = button.getBoundingClientRect();
    return bottom <= toast.top || top >= toast.bottom;
  });
}"""


def rows(site: Site, name: str) -> list[str]:
    return site.shell(SAID.format(name=name)).splitlines()


def expect_row(page: Page, site: Site, name: str, row: str) -> None:
    expect(page.get_by_role("heading", name="All done")).to_be_visible()
    assert rows(site, name) == [row]
    expect(page.locator("#failed")).to_have_count(0)


def test_work_goes_on_where_it_was_when_the_labeler_is_back(site: Site, sign_in):
    prepare(site, [2], "wilma")
    wilma = sign_in("wilma")
    page = wilma.page
    open_next(page, site)
    sign_out(site, page)
    reason = page.get_by_label("Why this order?")
    reason.fill("Shorter, and it answers.")
    page.get_by_label("A better").press("Space")  # chosen, not sent
    expect_told(page, "You've been signed out. What you wrote is kept.")
    expect(page.locator("#draft-state")).to_have_text("Not saved yet. This browser keeps a copy.")
    page.keyboard.press("b")
    expect_told(page, "It will be sent automatically")
    expect(page.locator("#failed").get_by_role("link", name="Sign in")).to_have_attribute(
        "href", f"/sign-in/?next={page.url.removeprefix(site.url).replace('/', '%2F')}"
    )
    expect(reason).to_have_value("Shorter, and it answers.")
    sign_in_elsewhere(site, page, "wilma")
    expect_row(page, site, "wilma", "A > B all_bad")
    wilma.errors.clear()  # each refusal is an error on the console


def test_whoever_writes_on_sends_it_when_it_is_ready(site: Site, sign_in):
    prepare(site, [3], "wanda")
    wanda = sign_in("wanda")
    page = wanda.page
    open_next(page, site)
    for letter, tier in zip("ABC", "123", strict=True):
        page.get_by_label(f"Tier of {letter}").select_option(tier)
    page.context.set_offline(True)
    page.keyboard.press("Control+Enter")
    expect_told(page, "You're offline. What you wrote is kept. It will be sent automatically")
    page.get_by_label("Tier of C").select_option("1")
    expect(page.locator("#failed")).not_to_contain_text("It will be sent automatically")
    page.context.set_offline(False)
    page.get_by_label("Tier of A").select_option("3")
    assert rows(site, "wanda") == []
    page.keyboard.press("Control+Enter")
    expect_row(page, site, "wanda", "C > B > A ranked")
    wanda.errors.clear()


def test_what_was_sent_offline_is_sent_again_once_and_seen_though_scrolled(site: Site, sign_in):
    prepare(site, [3], "walt")
    walt = sign_in("walt", width=360)
    page = walt.page
    open_next(page, site)
    for letter, tier in zip("ABC", "121", strict=True):
        page.get_by_label(f"Tier of {letter}").select_option(tier)
    page.context.set_offline(True)
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    page.locator("#submit").click()
    expect_told(page, "You're offline.")
    page.evaluate("scrollTo(0, 300)")
    expect_told(page, "You're offline.")
    page.context.set_offline(False)
    expect_row(page, site, "walt", "A=C > B ranked")
    walt.errors.clear()


def test_somebody_else_who_signs_in_sends_nothing_of_it(site: Site, sign_in):
    prepare(site, [2], "wendy")
    site.shell("from annotate.models import Project\n"
               "Project.objects.get(slug='desk').admit(name='xaver', role='labeler')")  # fmt: skip
    wendy = sign_in("wendy")
    page = wendy.page
    open_next(page, site)
    sign_in_elsewhere(site, page, "xaver")
    page.keyboard.press("8")
    expect_told(page, "You're signed in as xaver now")
    assert rows(site, "wendy") == rows(site, "xaver") == []
    sign_in_elsewhere(site, page, "wendy")
    expect_row(page, site, "wendy", "B > A ranked 4")
    wendy.errors.clear()


def test_a_chat_and_its_thumbs_are_kept_and_sent_when_the_guest_is_back(site: Site, sign_in):
    chat = json.loads(site.shell(TALK).splitlines()[-1])
    gina = sign_in("gina")
    page = gina.page
    page.goto(f"{site.url}/p/talk/chat/{chat}/")
    good = page.get_by_role("button", name="Good answer")
    expect(good).to_be_visible()
    sign_out(site, page)
    good.click()
    expect_told(page, "You've been signed out.")
    message = page.get_by_label("Your message")
    message.fill("And wheat?")
    message.press("Enter")
    expect_told(page, "You've been signed out.")
    expect(page.locator(".turn")).to_have_count(1)
    expect(message).to_have_value("And wheat?")
    assert json.loads(site.shell(HEARD)) == [0, 0]
    sign_in_elsewhere(site, page, "gina")
    expect(good.first).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".by-guest", has_text="And wheat?")).to_be_visible()
    expect(message).to_have_value("")
    assert json.loads(site.shell(HEARD)) == [1, 1]
    # A message that may have arrived is not sent twice unasked.
    # The answer is whole: nothing else is on its way.
    expect(page.get_by_role("button", name="Regenerate")).to_have_count(2)
    page.route("**/send/", lambda route: route.abort(), times=1)
    message.fill("And rye?")
    message.press("Enter")
    expect_told(page, "The site could not be reached. What you wrote is kept.")
    expect(page.locator("#failed")).not_to_contain_text("automatically")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".by-guest", has_text="And rye?")).to_be_visible()
    expect(page.locator("#failed")).to_have_count(0)
    gina.errors.clear()


def test_going_back_to_a_page_while_signed_out_leads_to_the_sign_in_page(site: Site, sign_in):
    prepare(site, [2, 2], "wim")
    wim = sign_in("wim")
    page = wim.page
    open_next(page, site)
    task = page.locator("#work").get_attribute("action")
    page.keyboard.press("8")
    expect(page.locator(f'#work[action="{task}"]')).to_have_count(0)
    sign_out(site, page)
    page.go_back()
    page.wait_for_url("**/sign-in/**")
    expect(page.locator("#work")).to_have_count(0)
    wim.errors.clear()


def send_again_when_back(site: Site, page: Page, name: str) -> None:
    """Once to be told who is signed in, and once to send it."""
    expect(page.get_by_role("heading", name="You've been signed out")).to_be_visible()
    expect(page.get_by_role("link", name="Sign in")).to_be_visible()
    sign_in_elsewhere(site, page, name)
    page.get_by_role("button", name="Send again").click()
    expect(page.get_by_text(f"You're signed in as {name}.")).to_be_visible()
    page.get_by_role("button", name="Send again").click()


def test_without_javascript_the_page_keeps_what_was_sent(site: Site, sign_in):
    prepare(site, [2], "wolf")
    wolf = sign_in("wolf", java_script_enabled=False)
    page = wolf.page
    open_next(page, site)
    page.get_by_label("Why this order?").fill("Shorter.")
    page.get_by_label("B better").check(force=True)
    sign_out(site, page)
    page.locator("#submit").click()
    send_again_when_back(site, page, "wolf")
    expect(page.get_by_role("heading", name="All done")).to_be_visible()
    assert rows(site, "wolf") == ["B > A ranked 3"]
    wolf.errors.clear()


def test_a_form_that_is_sent_without_htmx_is_kept_too(site: Site, sign_in):
    site.manage("create_project", "Form", "--slug", "form", "--operator", "wera")
    wera = sign_in("wera")
    page = wera.page
    page.goto(f"{site.url}/p/form/guideline/new/")
    page.get_by_label("Guideline").fill("Be brief.\n\nBe right.")
    sign_out(site, page)
    page.get_by_role("button", name="Publish").click()
    send_again_when_back(site, page, "wera")
    expect(page.get_by_text("Be right.").first).to_be_visible()
    wera.errors.clear()
