"""New round: what is drawn anew loses nothing of what somebody has unfolded or typed."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site

PREPARE = """
from annotate.models import *
from annotate.projects import base_policy
project = Project.objects.create(name="Dial", slug="dial")
project.admit(name="olga", role="operator")
base_policy(project, "tiny")
"""


@pytest.fixture(scope="module")
def address(site: Site) -> str:
    site.shell(PREPARE)
    return f"{site.url}/p/dial/rounds/new/"


@pytest.fixture
def page(address, sign_in) -> Page:
    olga: Page = sign_in("olga").page
    olga.goto(address)
    olga.get_by_text("More settings of the recipe").click()
    return olga


def test_what_is_unfolded_and_typed_outlives_a_change_of_stages(page):
    gamma, mode = (
        page.locator("[name='ppo.train.gamma']"),
        page.locator("[name='sft.tune.mode']"),
    )
    note, checks = page.get_by_label("Note"), page.locator("#checks")
    gamma.fill("0.3")
    note.fill("closer")
    mode.select_option("qlora")
    expect(checks).to_contain_text("CUDA")  # by the fields, before anything is pressed
    expect(gamma).to_have_value("0.3")
    page.get_by_label("PPO: optimises").uncheck()
    expect(gamma).to_have_count(0)
    expect(mode).to_be_visible()
    expect(mode).to_have_value("qlora")
    page.get_by_label("PPO: optimises").check()
    expect(gamma).to_have_value("0.3")
    expect(note).to_have_value("closer")
    page.get_by_text("More settings of the recipe").click()
    page.get_by_label("Small: 135 million").check()
    expect(page.get_by_text("More settings of the recipe “small”")).to_be_visible()
    expect(gamma).to_be_hidden()


def test_what_comes_back_with_its_stage_is_looked_at_anew(page):
    page.locator("[name='ppo.tune.mode']").select_option("qlora")
    checks, ppo = page.locator("#checks"), page.get_by_label("PPO: optimises")
    expect(checks).to_contain_text("CUDA")
    ppo.uncheck()
    expect(checks).not_to_contain_text("CUDA")
    ppo.check()
    expect(checks).to_contain_text("CUDA")


def test_a_dry_run_shows_what_would_run(page):
    page.get_by_role("button", name="Dry run").click()
    plan = page.get_by_role("heading", name="Plan")
    expect(plan).to_be_in_viewport()
    expect(page.get_by_text("Nothing was launched.")).to_be_in_viewport()


def test_what_is_typed_while_the_site_answers_stays(page):
    page.route("**/rounds/new/?*", lambda route: (page.wait_for_timeout(400), route.continue_()))
    seed = page.get_by_label("Seed")
    page.get_by_label("DPO: learns").check()
    seed.press_sequentially("7")
    expect(page.locator("[name='dpo.train.beta']")).to_be_visible()
    expect(seed).to_have_value("7")
    expect(seed).to_be_focused()
    page.unroute_all(behavior="wait")


def test_a_setting_is_found_by_a_word_and_marked_once_it_is_changed(page):
    words, clip = page.get_by_label("Find a setting"), page.locator("[name='ppo.train.clip_range']")
    words.press_sequentially("clip range")
    expect(page.get_by_text("1 found")).to_be_visible()
    expect(page.locator("[name='ppo.train.gamma']")).to_be_hidden()
    changed = page.locator(".setting:visible .changed:visible")
    expect(changed).to_have_count(0)
    clip.fill("0.1")
    expect(changed).to_have_count(1)
    clip.press("Tab")
    expect(page.locator("#checks")).to_be_visible()
    words.fill("")
    expect(page.locator("[name='ppo.train.gamma']")).to_be_visible()
    expect(clip).to_have_value("0.1")


def test_without_javascript_a_mistake_loses_nothing(address, sign_in):
    page = sign_in("olga", java_script_enabled=False).page
    page.goto(address)
    page.get_by_label("Small: 135 million").check()
    page.get_by_role("button", name="Show values").click()
    page.get_by_text("More settings of the recipe “small”").click()
    page.get_by_label("weight decay").first.fill("0.2")
    page.get_by_label("Note").fill("mine")
    page.get_by_role("button", name="Dry run").click()
    expect(page.get_by_label("Small: 135 million")).to_be_checked()
    expect(page.get_by_label("weight decay").first).to_have_value("0.2")
    expect(page.get_by_label("Note")).to_have_value("mine")
