"""Arabic and Hebrew stand as they are read, beside English ones."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Site

PREPARE = """
from annotate.models import Assignment, Completion, Policy, Project, Prompt, Task
from annotate.work.letters import letters_of
project, is_new = Project.objects.get_or_create(slug="scripts", defaults={"name": "Scripts"})
if is_new:
    project.publish_guideline(text="Be brief and right.", author=None)
labeler = project.admit(name="rana", role="labeler")
project.memberships.update(guideline_read=1)
project.tasks.open().update(closed_at="2026-01-01T00:00Z")
policy = Policy.objects.said_by(project, "m")
asked = f"لماذا توجد سنوات كبيسة؟ ({project.prompts.count()})"
prompt = Prompt.objects.create(project=project, messages=[{"role": "user", "content": asked}])
task = Task.objects.create(project=project, prompt=prompt, kind="rank")
for text in (
    "لأن السنة أطول من 365 يومًا بنحو ست ساعات (0.2422 يوم).\\n\\n- كل 4 سنوات\\n- ما عدا 1900",
    "כי שנה ארוכה מ־365 ימים בכשש שעות (0.2422 יום).",
    "Because a year is about six hours longer than 365 days.",
):
    task.completions.add(Completion.objects.create(prompt=prompt, policy=policy, text=text))
shown = list(letters_of(task.completions.order_by("pk").values_list("pk", flat=True)))
Assignment.objects.create(
    task=task, labeler=labeler, leased_until="2026-01-01T00:00Z", shown_order=shown
)
"""
DIRECTION = "element => getComputedStyle(element).direction"
OPEN = "element => element.closest('details')?.setAttribute('open', '')"
RIGHT, LEFT = "rtl", "ltr"


@pytest.mark.parametrize("width", [1280, 360])
def test_each_text_runs_in_the_direction_of_its_script(site: Site, sign_in, width):
    site.shell(PREPARE)
    page = sign_in("rana", width=width).page
    page.goto(f"{site.url}/p/scripts/label/")
    expect(page.locator("#work")).to_be_visible()
    for text, direction in (
        ("لماذا توجد سنوات كبيسة", RIGHT),
        ("لأن السنة أطول", RIGHT),
        ("כי שנה ארוכה", RIGHT),
        ("Because a year is", LEFT),
    ):
        paragraph = page.get_by_text(text).first
        assert paragraph.evaluate(DIRECTION) == direction, text
        # What is read from the right begins at the right edge of its card.
        box = paragraph.evaluate(
            """element => {
                const range = document.createRange()
                range.selectNodeContents(element)
                const runs = [...range.getClientRects()], room = element.getBoundingClientRect()
                const left = Math.min(...runs.map(run => run.left))
                const right = Math.max(...runs.map(run => run.right))
                return [left - room.left, room.right - right]
            }"""
        )
        assert (box[0] >= box[1] - 1) if direction == RIGHT else (box[0] <= box[1] + 1), box
    listed = page.get_by_text("كل 4 سنوات").first
    assert listed.evaluate(DIRECTION) == RIGHT
    note = page.locator("textarea[name=comment], textarea[name=reason]").first
    if note.count():
        note.evaluate(OPEN)
        note.fill("مفيد")
        assert note.evaluate(DIRECTION) == RIGHT
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"rtl_{width}.png", full_page=True)
