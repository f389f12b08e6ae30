"""One turn of the wheel, by the people who turn it, on the real stack with the tiny model."""

import json
import os
import re
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Site

QUESTIONS = [
    *("Name a European river.", "Name a European city.", "Name a European bird."),
    *("Name a European language.", "Name a fruit.", "Name a planet.", "Name a colour."),
    *("Name a metal.", "Name a tree.", "Name a number.", "Name an insect.", "Name a dance."),
]
ANSWERS = ["The Danube.", "Lisbon is a city in Europe.", "The robin.", "Finnish."]
MINUTES = 60_000

SET_UP = """
from annotate.models import Membership, Project, User
from annotate.projects import base_policy
project = Project.objects.create(name="Wheel", slug="wheel", ranking_size=4)
project.publish_guideline(text="Be **brief** and right.", author=None)
for name, role in [("alice", "labeler"), ("olga", "operator"), ("gus", "guest")]:
    project.admit(name=name, role=role)
project.memberships.update(guideline_read=1)
base_policy(project, "tiny")
elsewhere = Project.objects.create(name="Elsewhere", slug="elsewhere")
elsewhere.admit(name="mallory", role="operator")
"""


@pytest.mark.timeout(900)
def test_the_wheel_turns(site: Site, sign_in):
    site.shell(SET_UP)
    olga, alice = sign_in("olga").page, sign_in("alice").page
    import_prompts(olga, site)
    write_demonstrations(alice, site)
    sample_completions(olga, site)
    rank_completions(alice, site)
    launch_and_watch(olga, site)
    promote(olga, site)
    gus = sign_in("gus").page
    chat_and_judge(gus, site)
    sees_none_of_it(sign_in("mallory").page, site, chat=gus.url)
    trace(olga, site)
    roll_back(olga, site)


def import_prompts(olga: Page, site: Site) -> None:
    olga.goto(f"{site.url}/p/wheel/prompts/import/")
    lines = [json.dumps({"prompt": question}) for question in QUESTIONS]
    olga.get_by_label("Paste lines").fill("\n".join([*lines[:6], "{not JSON", *lines[6:]]))
    olga.get_by_role("button", name="Preview").click()
    expect(olga.locator("#result")).to_contain_text("Line 7")
    olga.get_by_role("link", name="Edit the lines").click()
    olga.get_by_label("Paste lines").fill("\n".join(lines))
    olga.get_by_role("button", name="Preview").click()
    expect(olga.locator("#result")).to_contain_text("12 lines of prompts can be imported")
    olga.get_by_role("button", name="Import all").click()
    expect(olga.get_by_text("12 new prompts")).to_be_visible()
    olga.goto(f"{site.url}/p/wheel/prompts/?words=European")
    olga.get_by_role("button", name="Ask for demonstrations").click()
    olga.get_by_role("button", name="Ask for demonstrations on all").click()


def write_demonstrations(alice: Page, site: Site) -> None:
    """By keyboard only: the editor has the focus, Ctrl+Enter submits and brings the next task."""
    alice.goto(f"{site.url}/p/wheel/label/")
    for answer in ANSWERS:
        task = alice.locator("#work").get_attribute("action")
        expect(alice.get_by_label("Your answer")).to_be_focused()
        alice.keyboard.type(answer)
        alice.keyboard.press("Control+Enter")
        expect(alice.locator(f'#work[action="{task}"]')).to_have_count(0)
        expect(alice.get_by_text("Saved at")).to_be_visible()


def sample_completions(olga: Page, site: Site) -> None:
    olga.goto(f"{site.url}/p/wheel/policies/sample/")
    olga.get_by_label("base-tiny").check()
    olga.get_by_role("button", name="Sample").click()
    expect(olga.get_by_text("Succeeded").first).to_be_visible(timeout=3 * MINUTES)


def rank_completions(alice: Page, site: Site) -> None:
    """By keyboard only: a digit rates the answer and goes to the next, and the order follows."""
    alice.goto(f"{site.url}/p/wheel/label/")
    for _ in range(4):
        expect(alice.get_by_role("heading", name="Rank the answers")).to_be_visible()
        task = alice.locator("#work").get_attribute("action")
        for key in "7553":
            alice.keyboard.press(key)
        tiers = alice.locator(".tier select")
        assert [tiers.nth(i).input_value() for i in range(4)] == ["1", "2", "2", "3"]
        tied = re.compile("All rated. [A-D] and [A-D] are tied")
        expect(alice.locator("#said")).to_have_text(tied)
        alice.keyboard.press("Control+Enter")
        expect(alice.locator(f'#work[action="{task}"]')).to_have_count(0)
    alice.goto(f"{site.url}/p/wheel/my-work/")
    expect(alice.get_by_text(re.compile("[A-D] = [A-D]")).first).to_be_visible()


def launch_and_watch(olga: Page, site: Site) -> None:
    olga.goto(f"{site.url}/p/wheel/rounds/new/")
    olga.get_by_label("Tiny").check()
    expect(olga.locator("#details")).to_contain_text("Demonstrations")
    olga.get_by_role("button", name="Dry run").click()
    expect(olga.get_by_role("region", name="Plan").get_by_role("row")).to_have_count(4)
    olga.get_by_role("button", name="Launch").click()
    expect(olga.get_by_role("heading", name=re.compile("Round 1"))).to_be_visible()
    stages = olga.get_by_role("list", name="Stages").get_by_role("listitem")
    expect(stages).to_have_count(4)
    cancel_and_resume(olga)
    kill_the_worker(site, stages.nth(2))
    for number, name in enumerate(["SFT", "Reward model", "PPO", "Evaluation"]):
        stage = stages.nth(number)
        expect(stage).to_contain_text(name, ignore_case=True)
        expect(stage).to_contain_text("Succeeded", timeout=5 * MINUTES)
    assert olga.evaluate("window.neverReloaded"), "the page was reloaded while it watched"
    olga.get_by_role("link", name="Charts", exact=True).click()
    for title in ("SFT loss", "Reward model accuracy", "PPO score", "KL to the SFT policy"):
        expect_drawn(olga.get_by_role("figure").filter(has_text=title))


def cancel_and_resume(olga: Page) -> None:
    """Whatever runs just then saves itself first, and goes on from there."""
    olga.get_by_role("button", name="Cancel").click()
    resume = olga.get_by_role("button", name="Resume")
    expect(resume).to_be_visible(timeout=MINUTES)
    expect(olga.get_by_role("heading", name=re.compile("Round 1"))).to_contain_text("Cancelled")
    resume.click()
    expect(resume).to_have_count(0)
    olga.evaluate("window.neverReloaded = true")


def kill_the_worker(site: Site, ppo: Locator) -> None:
    """In the middle of PPO: another worker takes over once the lease has run out."""
    expect(ppo).to_contain_text(re.compile("step [1-9]"), timeout=5 * MINUTES)
    [worker] = [pid for pid in children(site.process.pid) if "work train" in command_of(pid)]
    os.kill(worker, signal.SIGKILL)
    expect(ppo).to_contain_text("attempt", timeout=3 * MINUTES)


def children(parent: int) -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            if int(file.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(file.parent.name))
    return found


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def expect_drawn(figure: Locator) -> None:
    expect(figure).to_be_visible()
    coloured = figure.locator("canvas").evaluate(
        """canvas => canvas.getContext("2d")
            .getImageData(0, 0, canvas.width, canvas.height).data.some(byte => byte > 0)"""
    )
    assert coloured


def promote(olga: Page, site: Site) -> None:
    olga.goto(f"{site.url}/p/wheel/policies/")
    policy = olga.get_by_role("listitem").filter(
        has=olga.get_by_role("heading", name=re.compile("r1-ppo"))
    )
    policy.get_by_role("link", name="Promote…").click()
    expect(olga.get_by_text("compared it with base-tiny on 0 prompts")).to_be_visible()
    olga.get_by_label("Reason", exact=True).fill("Turns")
    olga.get_by_label("Reason for overriding the gate").fill("Nobody is there to ask")
    olga.get_by_role("button", name="Make r1-ppo live").click()
    expect(olga.get_by_role("heading", name=re.compile("r1-ppo.*live", re.I))).to_be_visible(
        timeout=MINUTES
    )


NOTE_LENGTHS = """
window.lengths = new Set();
new MutationObserver(() => {
    const text = document.querySelector(".streaming");
    if (text) window.lengths.add(text.textContent.length);
}).observe(document, {subtree: true, childList: true, characterData: true});
"""


def chat_and_judge(gus: Page, site: Site) -> None:
    gus.add_init_script(NOTE_LENGTHS)
    gus.goto(f"{site.url}/p/wheel/chat/")
    gus.get_by_role("textbox").fill("Name a fruit.")
    gus.keyboard.press("Enter")
    down = gus.get_by_role("button", name="Bad answer")
    expect(down).to_be_visible(timeout=MINUTES)
    expect(gus.get_by_text("r1-ppo")).to_have_count(0)  # guests judge without knowing whom
    assert gus.evaluate("window.lengths.size") > 1, "the answer came in one piece"
    down.click()
    expect(down).to_have_attribute("aria-pressed", "true")
    gus.get_by_label("Not correct").check()
    gus.get_by_role("button", name="Save").click()
    expect(gus.get_by_text("Thanks for the feedback.")).to_be_visible()
    down.click()
    expect(down).to_have_attribute("aria-pressed", "false")
    gus.reload()
    expect(down).to_have_attribute("aria-pressed", "false")


def sees_none_of_it(mallory: Page, site: Site, chat: str) -> None:
    mallory.goto(site.url)
    expect(mallory.get_by_text("Wheel")).to_have_count(0)
    pages = ("", "label/", "my-work/", "prompts/", "rounds/", "rounds/1/", "policies/", "chat/")
    for address in [f"{site.url}/p/wheel/{page}" for page in pages] + [chat]:
        answer = mallory.request.get(address)
        assert answer.status == 404, address
        assert "Wheel" not in answer.text()


def trace(olga: Page, site: Site) -> None:
    """From the policy down to the labeler, and from the labeler back to the policy."""
    olga.goto(f"{site.url}/p/wheel/policies/")
    policy = olga.get_by_role("listitem").filter(
        has=olga.get_by_role("heading", name=re.compile("r1-ppo"))
    )
    policy.get_by_role("link", name="Lineage").click()
    expect(olga.get_by_role("heading", name="Its reward model")).to_be_visible()
    expect(olga.get_by_role("heading", name=re.compile("base-tiny"))).to_be_visible()
    olga.get_by_role("link", name="alice 4").first.click()
    expect(olga.get_by_role("link", name="r1-ppo")).to_be_visible()


def roll_back(olga: Page, site: Site) -> None:
    olga.goto(f"{site.url}/p/wheel/policies/")
    olga.get_by_text("Roll back…").click()
    olga.get_by_label("Reason").first.fill("Too short")
    olga.get_by_role("button", name="Roll back to base-tiny").click()
    expect(olga.get_by_role("heading", name=re.compile("base-tiny.*live", re.I))).to_be_visible(
        timeout=MINUTES
    )
    olga.goto(f"{site.url}/p/wheel/decisions/")
    expect(olga.get_by_text("Too short")).to_be_visible()
