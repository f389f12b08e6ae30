"""Rows of a playground grid become probes of a suite that ask the same."""

import re

import pytest
from django.core.exceptions import ValidationError

from annotate.models import Grid
from annotate.playground.grids import Column
from annotate.playground.rows import Row
from rlhf.models import Suite
from rlhf.models.probes import parse, turns_of, written

CHECKS = "length(1-3),\nexact, contains(a \\) b|4)"
ROWS = [
    Row.saying("# Title\n\n  Add 17 and 25 => ?", reference="42"),
    Row.saying("Name a fruit.", "And\none more?", reference="a\n\npear"),
]


@pytest.fixture
def grid(project, olga, base):
    return Grid.lay_out(
        project=project, author=olga, prompts=ROWS, columns=[Column(base.pk)], checks=CHECKS
    )


def save(browser, grid, name, **rows):
    return browser.post(f"/p/cooking/suites/of-grid/{grid.pk}/", {"suite": name, **rows})


def test_a_suite_asks_what_the_rows_ask_and_checks_alike(browse, olga, project, grid):
    browser = browse(olga)
    assert save(browser, grid, "Ours").status_code == 302
    first, second = parse(project.suites.get().lines)
    assert turns_of(*first.prompts) == [ROWS[0].text]
    assert turns_of(*second.prompts) == ["Name a fruit.", "And\none more?"]
    assert (first.reference, second.reference) == ("42", "a\n\npear")
    assert [type(each) for each in first.parts] == [
        type(each) for each in grid.named_checks().values()
    ]
    assert [first.passes([answer]) for answer in ("42", "43", "a ) b")] == [True, False, False]
    assert "a ) b" in first.parts[2].texts


def test_a_labeler_saves_no_suite(browse, alice, project, grid):
    project.labelers_try = True
    project.save(update_fields=["labelers_try"])
    Grid.objects.update(author=alice)
    assert save(browse(alice), grid, "Mine").status_code == 403
    assert not project.suites.exists()


def test_rows_that_are_ticked_go_behind_those_there_once(browse, olga, project, grid):
    browser = browse(olga)
    save(browser, grid, "Known facts", row=["1"])
    lines = project.suites.get().lines.splitlines()
    assert lines[0].startswith("What is the capital") and lines[-1].startswith("Name a fruit.")
    save(browser, grid, "Known facts")
    assert project.suites.get().lines.count("Name a fruit.") == 1
    assert len(project.suites.get().lines.splitlines()) == len(lines) + 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"checks": ""}, "Row 1: the grid has no check that a suite knows"),
        ({"checks": "supported"}, "Row 1: the grid has no check that a suite knows"),
        ({"partner": "hangman"}, "Here they are played"),
        (
            {"asked": [{"messages": [{"role": "user", "content": "{a|b}"}], "reference": "a"}]},
            "Row 1: a suite reads",
        ),
        ({"asked": [{"messages": [{"role": "user", "content": "Hello"}]}]}, "Row 1: exact needs"),
        (
            {"asked": [{"messages": [{"role": "assistant", "content": "Hello"}]}]},
            "Row 1: it begins with earlier answers",
        ),
    ],
)
def test_what_a_suite_cannot_ask_is_named_and_nothing_is_saved(
    browse, olga, project, grid, changes, told
):
    Grid.objects.update(**changes)
    refused = save(browse(olga), grid, "Ours", row=["0"])
    assert refused.status_code == 422 and told in refused.text
    assert 'value="Ours"' in refused.text
    assert re.search(r'name="row" value="0"\s+checked', refused.text)
    assert not project.suites.exists()


def test_a_suite_has_a_name(browse, olga, project, grid):
    assert "Give the suite a name." in save(browse(olga), grid, " ").text
    assert save(browse(olga), grid, "x" * 61).status_code == 422
    assert not Suite.objects.exists()


@pytest.mark.parametrize(
    ("line", "checks", "reference"),
    [
        ("Add. => number, length(1-9) == 4", ["number", "length"], "4"),
        ("Add. => contains == Paris", ["contains"], "Paris"),
        ("Add. => contains(a == b)", ["contains"], ""),
        ("Add. => regex(a == b), exact == x == y", ["regex", "exact"], "x == y"),
        ("Add. => contains a == b", ["contains"], ""),
        ("{A|B}? => same, exact == 4 ↵ 5", ["exact"], "4\n5"),
    ],
)
def test_the_right_answer_stands_behind_the_checks(line, checks, reference):
    [probe] = parse(line)
    assert ([each.name for each in probe.parts], probe.reference) == (checks, reference)


@pytest.mark.parametrize("turn", ["a +++ b", "a ↵ b", "{a|b}"])
def test_a_text_that_a_suite_would_read_otherwise_is_refused(turn):
    with pytest.raises(ValidationError):
        written([turn], "json")
