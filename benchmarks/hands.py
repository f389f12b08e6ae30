"""What a labeler's hands do: presses, scrolling, and how much of the screen is text to judge.

Drives a real Chromium over real answers, by the keyboard alone and by the shortest way the page
offers, in a PostgreSQL of its own. `completions.jsonl` in DATA holds a prompt and its completions a
line: {"prompt": [{"role": …, "content": …}], "completions": [{"content": …}]}. One line of JSON for
each size of task and of window comes out, medians over the tasks:

    presses     of keys, for one task with the submit
    scroll_px   that the page moves meanwhile; read_px: and to the end of each answer, all shown
    text        share of the screen, after a submit, at which text to judge is seen (the answers and
                their prompt); of the tasks that are longer than the screen
    answers     the same, without the prompt
    main_s      seconds of the browser's main thread, for one task

    .venv/bin/python -m benchmarks.hands DATA [--tasks 126]

A window of 640 × 400 is one of 1280 × 800 at 200 % zoom.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from benchmarks.empty_site import empty_site
from benchmarks.labelling import _session_of

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WINDOWS = {"1280x800": (1280, 800), "360x800": (360, 800), "640x400": (640, 400)}
# Ratings of as many answers: two of them alike, as people give them.
RATINGS = (5, 2, 6, 2, 4, 7, 3, 1, 5)
# Points of the screen, 8 px apart, at which text is seen and nothing over it.
SHARES = """() => {
  const seen = { answers: 0, text: 0, all: 0 };
  for (let y = 4; y < innerHeight; y += 8) for (let x = 4; x < innerWidth; x += 8) {
    seen.all += 1;
    const at = document.elementFromPoint(x, y);
    const answer = at?.closest(".completion .prose");
    if (answer) seen.answers += 1;
    if (answer || at?.closest(".asked :is(.prose, .gist)")) seen.text += 1;
  }
  return [seen.text / seen.all, seen.answers / seen.all];
}"""
MOVED = """() => {
  let last = scrollY;
  if (!window.follow) addEventListener("scroll", () => window.follow());
  window.moved = 0;
  window.follow = () => { window.moved += Math.abs(scrollY - last); last = scrollY; };
}"""


# The project


def build(rows: list[dict[str, Any]], *, slug: str, k: int, rated: bool) -> None:
    from annotate.models import Completion, Project, Prompt, Task

    project = Project.objects.create(
        name=slug, slug=slug, rate_before_ranking=rated, gold_every=0, random_review_percent=0
    )
    project.admit(name="alice", role="labeler")
    policies = [project.policies.create(name=f"m{n}", origin="external") for n in range(k)]
    for row in rows:
        prompt = Prompt.objects.create(project=project, messages=row["prompt"])
        task = Task.objects.create(project=project, prompt=prompt, kind="rank")
        said = list(zip(policies, row["completions"], strict=False))
        task.completions.set(
            [
                Completion.objects.create(prompt=prompt, policy=policy, text=each["content"])
                for policy, each in said
            ]
        )


def different(rows: list[dict[str, Any]], k: int) -> list[dict[str, Any]]:
    """The tasks with at least `k` completions that do not say the same."""
    return [
        row
        for row in rows
        if len({each["content"] for each in row["completions"][:k]}) == k
        and all(each["content"].strip() for each in row["completions"][:k])
    ]


@contextmanager
def web(port: int) -> Iterator[str]:
    command = [
        *("uvicorn", "feedback_site.asgi:application", "--port", str(port)),
        *("--lifespan", "off", "--no-access-log", "--log-level", "warning"),
    ]
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urlopen(f"{address}/sign-in/").close()  # noqa: S310
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


# The hands


class Hands:
    """A labeler at a keyboard, who counts."""

    def __init__(self, page: Any, *, k: int, rated: bool) -> None:
        self.page, self.k, self.rated = page, k, rated
        self.presses = 0
        self.session = page.context.new_cdp_session(page)
        self.session.send("Performance.enable")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
            self.presses += 1

    def main_seconds(self) -> float:
        metrics = self.session.send("Performance.getMetrics")["metrics"]
        return next(float(each["value"]) for each in metrics if each["name"] == "TaskDuration")

    def do(self) -> dict[str, float]:
        """One task, from the moment it is there until the next one is."""
        task = self.page.locator("#work").get_attribute("action")
        text, answers = self.page.evaluate(SHARES)
        is_long = self.page.evaluate("document.documentElement.scrollHeight > innerHeight * 1.05")
        read = self.reading()
        self.page.evaluate(MOVED)
        self.presses, began = 0, self.main_seconds()
        if self.k == 2:
            self.compare()
        else:
            self.rank()
        self.page.evaluate("window.follow()")
        moved = self.page.evaluate("window.moved")
        if self.k > 2 or not self.is_new:
            self.press("Control+Enter")
        self.page.wait_for_function(
            "(task) => document.getElementById('work')?.getAttribute('action') !== task", arg=task
        )
        return {
            "presses": self.presses,
            "scroll_px": moved,
            "read_px": read,
            "text": text if is_long else float("nan"),
            "answers": answers if is_long else float("nan"),
            "main_s": self.main_seconds() - began,
        }

    def reading(self) -> float:
        """How far the page goes from its top till the end of the last answer is seen, all shown."""
        return float(
            self.page.evaluate("""() => {
              const cards = [...document.querySelectorAll(".completion")];
              for (const card of cards) card.classList.add("whole");
              const dock = document.querySelector(".dock").getBoundingClientRect().height;
              const ends = [...document.querySelectorAll(".completion .prose")]
                .map((each) => each.getBoundingClientRect().bottom + scrollY);
              for (const card of cards) card.classList.remove("whole");
              return Math.max(0, Math.max(...ends) - (innerHeight - dock));
            }""")
        )

    @property
    def is_new(self) -> bool:
        return bool(self.page.locator(".strip").count())

    def compare(self) -> None:
        if self.is_new:
            self.press("2")
        else:
            self.press("ArrowLeft", "3")

    def rank(self) -> None:
        if self.is_new:
            self.press(*(str(n) for n in (RATINGS if self.rated else range(1, 10))[: self.k]))
            if self.rated and self.page.locator(".shelf:has(.token + .token)").count():
                self.press("Shift+ArrowUp")
            return
        places = sorted(range(self.k), key=lambda n: -RATINGS[n])
        for n in range(self.k):
            self.press("j")
            if self.rated:
                self.rate_by_tab(RATINGS[n])
            self.press(str(places.index(n) + 1))

    def rate_by_tab(self, rating: int) -> None:
        at_radio = "document.activeElement.matches('.rating input')"
        while not self.page.evaluate(at_radio):
            self.press("Tab")
        self.press("Space", *["ArrowRight"] * (rating - 1))


def measure(browser: Any, address: str, *, slug: str, k: int, rated: bool, window: str, tasks: int):  # noqa: ANN201
    width, height = WINDOWS[window]
    context = browser.new_context(viewport={"width": width, "height": height})
    context.set_default_timeout(30_000)
    context.add_cookies([{"name": "sessionid", "value": _session_of("alice"), "url": address}])
    page = context.new_page()
    page.goto(f"{address}/p/{slug}/label/")
    hands = Hands(page, k=k, rated=rated)
    hands.do()  # the first one loads styles and scripts
    done = [hands.do() for _ in range(tasks)]
    context.close()
    figures = {}
    for name in done[0]:
        values = [each[name] for each in done if each[name] == each[name]]
        figures[name] = round(statistics.median(values), 2) if values else None
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="the folder with completions.jsonl")
    parser.add_argument("--tasks", type=int, default=126)
    parser.add_argument("--port", type=int, default=8797)
    arguments = parser.parse_args()

    with empty_site(DJANGO_ALLOW_ASYNC_UNSAFE="1"):  # Playwright has a loop in this thread
        from playwright.sync_api import sync_playwright

        lines = (arguments.data / "completions.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        executable = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
        with web(arguments.port) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
            for k, rated in ((6, True), (6, False), (2, False)):
                usable = different(rows, k)[: arguments.tasks + 2]
                for window in WINDOWS:
                    slug = f"k{k}-{'rated' if rated else 'plain'}-{window}"
                    build(usable, slug=slug, k=k, rated=rated)
                    figures = measure(
                        browser,
                        address,
                        slug=slug,
                        k=k,
                        rated=rated,
                        window=window,
                        tasks=min(arguments.tasks, len(usable) - 2),
                    )
                    print(json.dumps({"k": k, "rated": rated, "window": window, **figures}))
            browser.close()


if __name__ == "__main__":
    main()
