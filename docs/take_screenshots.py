"""Takes the README's screenshots of a site that is up with the data of a finished demo:

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
PEOPLE = {"alice": "labeler", "olga": "operator", "gus": "guest"}


def manage(data_dir: str, *arguments: str) -> str:
    command = [sys.executable, "manage.py", *arguments]
    env = {**os.environ, "DATA_DIR": data_dir}
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return ended.stdout.strip()


def prepare(data_dir: str, slug: str) -> None:
    """People in the demo's project, and something for a person to rank."""
    code = f"""
from annotate.models import Project
from annotate.queue import open_rank_tasks
project = Project.objects.get(slug={slug!r})
for name, role in {PEOPLE!r}.items():
    project.admit(name=name, role=role)
open_rank_tasks(project, prompts=project.prompts.all(), k=4, overlap=1, batch="screenshots")
"""
    manage(data_dir, "shell", "--no-imports", "-c", code)


def shoot(page: Page, name: str) -> None:
    page.wait_for_timeout(800)
    page.screenshot(path=OUT / f"{name}.png")


def main(site: str, data_dir: str, slug: str) -> None:
    OUT.mkdir(exist_ok=True)
    prepare(data_dir, slug)
    here = f"{site}/p/{slug}"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        pages = {}
        for name in PEOPLE:
            page = pages[name] = chromium.new_context(
                viewport={"width": 1280, "height": 800}, color_scheme="light"
            ).new_page()
            page.goto(manage(data_dir, "login_link", name))
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_load_state()
        pages["alice"].goto(f"{here}/label/")
        for key in ("j", "1", "j", "2", "j", "=", "j", "3"):
            pages["alice"].keyboard.press(key)
        pages["alice"].evaluate("scrollTo(0, 0)")
        shoot(pages["alice"], "rank")
        pages["olga"].goto(f"{here}/rounds/")
        pages["olga"].locator("tbody a, .round a, main li a").first.click()
        shoot(pages["olga"], "round")
        pages["gus"].goto(f"{here}/chat/new/")
        pages["gus"].get_by_role("textbox").fill("What is the capital of Portugal?")
        pages["gus"].keyboard.press("Enter")
        down = pages["gus"].get_by_role("button", name="Bad answer")
        down.click(timeout=60_000)
        shoot(pages["gus"], "chat")
        chromium.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
