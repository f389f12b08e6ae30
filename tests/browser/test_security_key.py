"""A security key in a real browser, whose authenticator Chromium plays (CDP WebAuthn)."""

import re

from playwright.sync_api import expect

PEOPLE = """
from annotate.models import Project
project = Project.objects.create(name="Keys", slug="keys")
project.admit(name="kim", role="labeler")
person = project.memberships.get().user
person.set_password("a good long passphrase")
person.save()
"""


def test_a_key_is_added_and_asked_for_at_the_next_sign_in(site, browser):
    site.shell(PEOPLE)
    home = site.url.replace("127.0.0.1", "localhost")  # a bare address has no keys
    context = browser.new_context()
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    devtools = context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {"protocol": "ctap2", "transport": "usb", "automaticPresenceSimulation": True}
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})

    def sign_in():
        page.goto(f"{home}/sign-in/")
        page.get_by_label("Name").fill("kim")
        page.get_by_label("Password").fill("a good long passphrase")
        page.get_by_role("button", name="Sign in").click()

    sign_in()
    expect(page.get_by_role("button", name="Sign out", exact=True).first).to_be_visible()
    page.goto(f"{home}/account/security/key/")
    page.get_by_label("Name").fill("Blue key")
    page.get_by_role("button", name="Add key").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    page.get_by_role("link", name="I have kept them").click()
    expect(page.get_by_role("button", name="Remove Blue key")).to_be_visible()
    page.get_by_role("button", name="Sign out", exact=True).first.click()
    page.wait_for_url(re.compile("signed-out"))
    sign_in()
    expect(page.get_by_role("heading", name="One more step")).to_be_visible()
    page.get_by_role("button", name="Use a security key").click()
    page.wait_for_url(re.compile("/p/keys/"))
    page.goto(f"{home}/account/security/")
    expect(page.get_by_text("by password and security key")).to_be_visible()
    assert not errors
    context.close()
