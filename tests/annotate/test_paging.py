"""Pages that begin after a row: every row once, there and back, whatever the address says."""

import pytest

from annotate.models import Prompt
from annotate.paging import counted, page_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def rows(project):
    messages = [[{"role": "user", "content": f"Question {n}"}] for n in range(11)]
    Prompt.objects.bulk_create(Prompt(project=project, messages=m).derive() for m in messages)
    return project.prompts.all()


@pytest.mark.parametrize("newest_first", [True, False])
def test_walking_on_and_back_meets_every_row_once(rows, newest_first):
    pages = [page_of(rows, {}, size=4, newest_first=newest_first)]
    while pages[-1].next:
        asked = {"after": str(pages[-1].next)}
        pages.append(page_of(rows, asked, size=4, newest_first=newest_first))
    met = [row.pk for page in pages for row in page.rows]
    assert met == sorted((row.pk for row in rows), reverse=newest_first)
    assert [len(page.rows) for page in pages] == [4, 4, 3]
    assert pages[0].previous is None
    back = page_of(rows, {"before": str(pages[2].previous)}, size=4, newest_first=newest_first)
    assert back == pages[1]
    first = page_of(rows, {"before": str(back.previous)}, size=4, newest_first=newest_first)
    assert first == pages[0]


@pytest.mark.parametrize("asked", ["", "x", "-1", "٣", "²", "9" * 30, "9" * 5000, "1e3"])
def test_an_address_that_makes_no_sense_leads_to_the_first_page(rows, asked):
    first = page_of(rows, {}, size=4, newest_first=False)
    assert page_of(rows, {"after": asked}, size=4, newest_first=False) == first
    assert page_of(rows, {"before": asked}, size=4, newest_first=False) == first


def test_counting_stops_where_nobody_cares_any_more(rows, monkeypatch):
    assert counted(rows) == "11"
    monkeypatch.setattr("annotate.paging.COUNTED", 10)
    assert counted(rows) == "10+"
