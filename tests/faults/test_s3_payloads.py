"""S3: whatever people and models write, every page shows it in a real browser and does no more.

The long form alone, as it looks at every page several times. `tests/annotate/test_render.py` is the
short one: the same payloads through the renderer, the chat and the forms."""

import json
from itertools import product

import pytest
from django.urls import reverse
from playwright.sync_api import Page

from tests.annotate.test_render import PAYLOADS
from tests.browser.conftest import Site, browser, sign_in, site
from tests.browser.test_every_page import (
    NO_PRACTICE,
    NO_REVIEW,
    OWN,
    ROUTES,
    SEEN_BY,
    TOKEN,
    WATCHER,
    WORLD,
    least_role,
    owner,
)
from tests.faults.conftest import IS_LONG

__all__ = ["browser", "sign_in", "site"]

AROUND = [
    *("{}", "Hello\n\n{}\n\nBye", "- {}", "a {} b", "{0}{0}", "> {}", "| a |\n|---|\n| {} |"),
    *('"{}', "'>{}", "</p>{}", "</textarea>{}", "</script>{}", "</title>{}", "-->{}"),
    *("`{}`", "**{}**", "[{}](https://a.example)", "&lt;{}", "\u202e{}"),
]
ALL = list(dict.fromkeys(around.format(each) for each, around in product(PAYLOADS, AROUND)))
NAMES_A_ROUND, ROUNDS = 60, 6

# Each text that people or models write is all of the payloads, each name one of them.
POISON = """
import itertools, json
from pathlib import Path
from django.db import models
payloads = json.loads(Path({file!r}).read_text())
everything, names = "\\n\\n".join(payloads), itertools.cycle(payloads)
TEXTS = "text note reason comment wanted_answer goal rubric failure skip_note override".split()
NAMES = "name title first_name last_name".split()
was = models.Field.as_it_was = models.Field.get_db_prep_save
def poisoned(field, value, connection):
    if isinstance(value, str) and value and not field.choices:
        if isinstance(field, models.TextField) and field.name in TEXTS:
            value = everything
        elif field.name in TEXTS + NAMES and (field.max_length or 0) >= 60:
            value = next(names)[: field.max_length].strip() or "x"
    return was(field, value, connection)
models.Field.get_db_prep_save = poisoned
"""
RENAME = """
import itertools, json
from pathlib import Path
from annotate.models import *
names = itertools.cycle(json.loads(Path({file!r}).read_text())[{start}:{start} + {count}])
def rename(rows, field):
    for row in rows.order_by("pk"):
        longest = row._meta.get_field(field).max_length
        rows.filter(pk=row.pk).update(**{{field: next(names)[:longest].strip() or f"x{{row.pk}}"}})
whole = Project.objects.filter(slug="whole")
rename(whole, "name")
rename(Policy.objects.filter(project__in=whole), "name")
rename(User.objects.filter(memberships__project__in=whole), "first_name")
rename(Connection.objects.filter(project__in=whole), "name")
rename(Judge.objects.filter(project__in=whole), "name")
rename(Conversation.objects.filter(project__in=whole), "title")
"""
LOOK = """() => {
  const wrong = window.ran ? [`ran ${window.ran} scripts`] : [];
  const tags = ["IFRAME", "OBJECT", "EMBED", "BASE", "MARQUEE", "VIDEO", "AUDIO", "MATH", "STYLE"];
  for (const each of document.querySelectorAll("*")) {
    const inert = each.tagName === "SCRIPT" && each.type === "application/json";
    let bad = tags.includes(each.tagName) || each.tagName === "SCRIPT" && !each.src && !inert;
    bad ||= each.tagName === "META" && each.httpEquiv === "refresh";
    for (const {name, value} of each.attributes) {
      bad ||= /^on/i.test(name) || /^hx-on/i.test(name) || name === "srcdoc";
      bad ||= /^[\\s\\0-\\x1f]*(javascript|vbscript|data|file):/i.test(value)
        && /^(href|src|action|formaction|xlink:href|data|poster)$/i.test(name);
      bad ||= name === "src" && !value.startsWith("/");
    }
    if (bad) wrong.push(each.outerHTML.slice(0, 200));
  }
  return wrong;
}"""


def test_there_are_enough_of_them() -> None:
    assert len(ALL) >= 1500


def watched(page: Page, url: str) -> list[str]:
    """What the page asks of other hosts, and the dialogs it opens."""
    seen: list[str] = []
    page.add_init_script("for (const n of ['alert', 'msgbox', 'prompt', 'confirm'])"
                         " window[n] = () => { window.ran = (window.ran || 0) + 1; };")  # fmt: skip
    page.on("request", lambda asked: None if asked.url.startswith(url) else seen.append(asked.url))
    return seen


@pytest.mark.skipif(not IS_LONG, reason="every page, several times: `make faults`")
@pytest.mark.timeout(7200)
def test_no_page_does_what_is_written_on_it(site: Site, sign_in, tmp_path, report):
    file = tmp_path / "payloads.json"
    file.write_text(json.dumps(ALL))
    poison = POISON.format(file=str(file))
    question = 'asked = f"Why? {project.prompts.count()}'
    assert question in WORLD
    world = WORLD.replace(question, 'asked = f"{everything} {project.prompts.count()}')
    everywhere, somewhere = json.loads(site.shell(poison + world).splitlines()[-1])
    # The console is one process for all commands.
    site.shell("from django.db.models import Field; Field.get_db_prep_save = Field.as_it_was")
    pages = {name: sign_in(name).page for name in ("gus", "alice", "bob", "rita", "olga", "ada")}
    pages["nobody"] = pages["gus"].context.browser.new_context().new_page()
    outside = {who: watched(page, site.url) for who, page in pages.items()}
    walk = [(who, name, everywhere | {"assignment_id": pk}) for who, name, pk in somewhere]
    for name, _ in ROUTES:
        role = least_role(name)
        if role not in (TOKEN, WATCHER, NO_REVIEW, NO_PRACTICE):
            walk.append((owner(name) if role == OWN else SEEN_BY[role], name, everywhere))
    wrong: dict[str, list[str]] = {}
    seen, looks = set(), 0
    for turn in range(ROUNDS):
        start = turn * NAMES_A_ROUND * (len(ALL) // (ROUNDS * NAMES_A_ROUND))
        site.shell(RENAME.format(file=str(file), start=start, count=NAMES_A_ROUND))
        for who, name, named in walk:
            address = reverse(name, kwargs={each: named[each] for each in dict(ROUTES)[name]})
            answer = pages[who].request.get(site.url + address)
            if "text/html" not in answer.headers.get("content-type", "") or answer.status == 405:
                continue
            assert answer.status < 500, (address, answer.status)
            if "<html" not in answer.text():
                continue
            pages[who].goto(site.url + address, wait_until="load")
            seen.add(name)
            looks += 1
            if found := pages[who].evaluate(LOOK):
                wrong[f"{address} for {who}"] = found[:3]
    pages["nobody"].context.close()
    report(payloads=len(ALL), pages=len(seen), looks=looks)
    assert not wrong
    assert not {who: asked for who, asked in outside.items() if asked}
    assert len(seen) >= 40, sorted(seen)
