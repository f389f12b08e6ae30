"""Takes the screenshots of README and docs from a site that is up with the data of a finished demo:

make demo && make run DATA_DIR=.data/demo-tiny
.venv/bin/python docs/take_screenshots.py http://127.0.0.1:8000 DATA_DIR PROJECT_SLUG
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "docs" / "screenshots"
PEOPLE = {"alice": "labeler", "rita": "reviewer", "olga": "operator", "gus": "guest"}


def manage(data_dir: str, *arguments: str) -> str:
    command = [sys.executable, "manage.py", *arguments]
    env = {**os.environ, "DATA_DIR": data_dir}
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return ended.stdout.strip()


def prepare(data_dir: str, slug: str) -> None:
    """People in the demo's project, and something for a person to rank."""
    code = f"""
from annotate.models import Project
from annotate.labels.kinds.ranking.tasks import open_rank_tasks
project = Project.objects.get(slug={slug!r})
project.rate_before_ranking = True
project.save(update_fields=["rate_before_ranking"])
for name, role in {PEOPLE!r}.items():
    project.admit(name=name, role=role)
open_rank_tasks(project, prompts=project.prompts.all(), k=4, overlap=1, batch="screenshots")
"""
    manage(data_dir, "shell", "--no-imports", "-c", code)


def rank(page: Page, here: str) -> None:
    page.goto(f"{here}/label/")
    read = page.get_by_role("button", name="I have read it")
    if read.count():
        read.click()
    page.get_by_role("button", name="Submit").wait_for()
    for key in "7553":
        page.keyboard.press(key)
    page.evaluate("scrollTo(0, 0)")


def home(page: Page, here: str) -> None:
    """After an answer, so that there is work of today to show."""
    rank(page, here)
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("button", name="Undo").wait_for()
    page.goto(f"{here}/")


def review(page: Page, here: str) -> None:
    page.goto(f"{here}/review/")
    page.get_by_role("link", name="Review the next one").click()
    page.get_by_role("button", name="Accept all").wait_for()


def rounds_new(page: Page, here: str) -> None:
    page.goto(f"{here}/rounds/new/")


def round(page: Page, here: str) -> None:
    page.goto(f"{here}/rounds/")
    page.get_by_role("link", name="Round 1").click()


def charts(page: Page, here: str) -> None:
    page.goto(f"{here}/rounds/1/charts/")
    page.locator(".u-over").first.wait_for()


def chat(page: Page, here: str) -> None:
    page.goto(f"{here}/chat/new/")
    page.get_by_role("textbox", name="Message").fill("Why do we have leap years?")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Bad answer").click(timeout=180_000)


SHOTS = {
    "rank": ("alice", rank),
    "home": ("alice", home),
    "review": ("rita", review),
    "rounds_new": ("olga", rounds_new),
    "round": ("olga", round),
    "charts": ("olga", charts),
    "chat": ("gus", chat),
}


def main(site: str, data_dir: str, slug: str, *names: str) -> None:
    OUT.mkdir(exist_ok=True)
    prepare(data_dir, slug)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for name in names or SHOTS:
            person, walk = SHOTS[name]
            page = chromium.new_context(
                viewport={"width": 1280, "height": 800}, color_scheme="light"
            ).new_page()
            page.goto(manage(data_dir, "login_link", person))
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_load_state()
            walk(page, f"{site}/p/{slug}")
            page.wait_for_timeout(800)
            page.screenshot(path=OUT / f"{name}.png")
        chromium.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
