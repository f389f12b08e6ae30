"""A completion has one letter, whoever looks: what people write of B is about the same text."""

import json
import re
from importlib import import_module

import pytest
from django.db import connection

from annotate.exchange.exports.exporting import lines
from annotate.labelling.queue import next_assignment
from annotate.models import Assignment, Membership, Placement, Ranking, Review, Task
from annotate.work.letters import letters_of, unlike
from tests.annotate.answering import rank
from tests.annotate.conftest import ranking

CARD = r'data-letter="(.)".*?<div class="prose"><p dir="auto">(.*?)</p>'
HEADING = r"<h2>(.)</h2>\s*<div class=\"card prose\"><p dir=\"auto\">(.*?)</p>"
ROW = r'<tr><th scope="row"><\w+[^>]*>(.)</\w+>\s*<div class="prose">\s*<p dir="auto">(.*?)</p>'
MATRIX = r'<summary>(.)</summary>\s*<div class="prose"><p dir="auto">(.*?)</p>'


def letters_on(page, pattern):
    """Letter → text, as the page has them."""
    found = re.findall(pattern, page.content.decode(), re.DOTALL)
    assert len(found) == 5
    return dict(found)


def test_the_letters_are_a_lot_of_the_ids_whatever_their_order():
    assert letters_of([3, 1, 2]) == letters_of([2, 3, 1])
    assert sorted(letters_of([3, 1, 2]).values()) == ["A", "B", "C"]
    first = [min(ids := range(n, n + 4), key=letters_of(ids).get) - n for n in range(0, 4000, 4)]
    for place in range(4):
        assert 200 < first.count(place) < 300


def test_everybody_sees_a_completion_under_the_same_letter_on_every_page(
    browse, project, alice, bob, rita, rank_task
):
    task = rank_task(k=5, overlap=2)
    works = [next_assignment(each, project) for each in (alice, bob)]
    assert works[0].shown_order != works[1].shown_order
    label = "/p/cooking/label/"
    pages = [letters_on(browse(w.labeler).get(f"{label}{w.pk}/"), CARD) for w in works]
    assert pages[0] == pages[1]
    texts = pages[0]

    # One ranks A to E, the other E to A; each names them by letter.
    for work, order in zip(works, ("ABCDE", "EDCBA"), strict=True):
        by_letter = {letter: pk for pk, letter in work.letters.items()}
        placed = [Placement(completion_id=by_letter[x], place=n) for n, x in enumerate(order, 1)]
        own = Ranking.record(assignment=work, placements=placed, reason=f"{order[0]} is best.")
        assert own.tiers == [[letter] for letter in order]
        mine = browse(work.labeler).get("/p/cooking/my-work/").content.decode()
        assert " &gt; ".join(order) in mine

    review = next_assignment(rita, project, only="review")
    page = browse(rita).get(f"/p/cooking/review/{review.pk}/")
    assert letters_on(page, MATRIX) == texts
    assert [row.letter for row in page.context["rows"]] == list("ABCDE")
    assert [row.placed[0].place for row in page.context["rows"]] == [1, 2, 3, 4, 5]
    assert "Written with different letters" not in page.content.decode()

    by_letter = {letter: pk for pk, letter in review.letters.items()}
    sent = {f"place_{by_letter[x]}": n for n, x in enumerate("CABED", 1)}
    seen = page.context["form"].initial["seen"]
    sent |= {"verdict": "own", "cause": "subjective", "comment": "C is it.", "seen": seen}
    browse(rita).post(f"/p/cooking/review/{review.pk}/", {**sent, "as_gold": "on"})
    page = browse(rita).get(f"/p/cooking/review/{review.pk}/")
    assert letters_on(page, ROW) == texts
    assert page.context["own"].tiers == [["C"], ["A"], ["B"], ["E"], ["D"]]

    done = browse(alice).get(f"{label}{works[0].pk}/")
    assert letters_on(done, HEADING) == texts and "C is it." in done.content.decode()
    member = project.memberships.get(user=alice)
    answer = f"/p/cooking/labelers/{member.pk}/answers/{works[0].pk}/"
    assert letters_on(browse(rita).get(answer), ROW) == texts

    # And so does who practises on it later, with the reviewer's reason beside.
    gold = Task.objects.exclude(gold=None).get()
    assert gold.gold.labeler == rita and gold.prompt == task.prompt
    gold.use(is_practice=True)
    carol = project.admit(name="carol", role=Membership.Role.LABELER)
    shown = sorted(review.shown_order)
    practised = Assignment.objects.create(
        task=gold, labeler=carol, trial="practice", leased_until=gold.created_at, shown_order=shown
    )
    page = browse(carol).get(f"{label}{practised.pk}/")
    assert letters_on(page, CARD) == texts
    placed = [Placement(completion_id=pk, place=n) for n, pk in enumerate(shown, 1)]
    Ranking.record(assignment=practised, placements=placed)
    assert letters_on(browse(carol).get(f"{label}{practised.pk}/practice/"), ROW) == texts


def test_of_two_the_choice_names_the_letters_of_the_cards(browse, project, rank_task):
    rank_task(k=2, overlap=16)
    orders = set()
    for number in range(8):
        person = project.admit(name=f"labeler{number}", role=Membership.Role.LABELER)
        project.memberships.update(guideline_read=1)
        work = next_assignment(person, project)
        page = browse(person).get(f"/p/cooking/label/{work.pk}/").content.decode()
        first, second = re.findall(r'data-letter="(.)"', page)
        assert re.findall(r">(.) much better <", page) == [first, second]
        orders.add(first)
    assert orders == {"A", "B"}


def test_the_verb_and_the_page_refuse_by_the_letters_of_the_page(browse, alice, project, rank_task):
    rank_task(k=4)
    work = next_assignment(alice, project)
    left_out = work.shown_order[0]
    form = {f"place_{pk}": 1 for pk in work.shown_order[1:]}
    form["idempotency_key"] = "7d3ad1a4-2f0d-4d1c-9d35-5c1c9f0e6a11"
    reply = browse(alice).post(f"/p/cooking/label/{work.pk}/", form).content.decode()
    assert f"Choose a tier for {work.letters[left_out]} too." in reply


# What was written before everybody had the same letters


def test_two_letters_of_one_completion_are_told_apart():
    assert unlike({1: "A", 2: "B", 3: "C"}, {1: "B", 2: "A", 3: "C"}) == [("A", "B"), ("B", "A")]
    assert unlike({1: "A", 9: "B"}, {1: "A"}) == []


@pytest.fixture
def earlier(project, alice, bob, rank_task):
    """Alice's answer, with letters of her own; and Bob's, who thinks the opposite."""
    rank_task(overlap=2)
    work = next_assignment(alice, project)
    common = sorted(work.letters, key=work.letters.get)
    Assignment.objects.filter(pk=work.pk).update(letter_order=common[::-1])
    work.refresh_from_db()
    placed = [Placement(completion_id=pk, place=n) for n, pk in enumerate(common, 1)]
    own = Ranking.record(assignment=work, placements=placed, reason="A rambles.")
    rank(bob, project, [sorted(common).index(pk) for pk in common[::-1]])
    return own


def test_the_migration_gives_what_was_begun_the_letters_of_its_places(
    project, alice, bob, rank_task, write_task
):
    rank_task(k=4, overlap=2)
    write_task()
    begun = next_assignment(alice, project)
    own = rank(bob, project, [0, 1, 2, 3])
    written = next_assignment(bob, project)
    migration = import_module("annotate.migrations.0002_give_a_completion_one_letter")
    with connection.cursor() as cursor:
        for table in ("assignment", "ranking"):
            cursor.execute(migration.KEEP.format(table=table))
    for each in (begun, own, written):
        each.refresh_from_db()
    assert "".join(begun.letters[pk] for pk in begun.shown_order) == "ABCD"
    assert "".join(own.letters[pk] for pk in own.shown_order) == "ABCD"
    assert written.letter_order is None


def test_who_has_begun_keeps_the_letters_and_others_are_told_which_is_which(
    browse, project, alice, rita, earlier
):
    assert earlier.tiers == [["C"], ["B"], ["A"]]
    revised = earlier.revise(revision_no=1, placements=earlier._copy()._unsaved, reason="A errs.")
    assert revised.tiers == earlier.tiers
    key = "Written with different letters: their A is C here, their C is A here."
    review = next_assignment(rita, project, only="review")
    page = browse(rita).get(f"/p/cooking/review/{review.pk}/")
    assert page.content.decode().count(key) == 1
    verdicts = {int(pk): "accepted" for pk in page.context["form"].initial["seen"].split()}
    verdicts[revised.pk] = "sent_back"
    Review.record(assignment=review, verdicts=verdicts, comment="Look at C again.")
    assert key in browse(rita).get(f"/p/cooking/review/{review.pk}/").content.decode()
    # The comment of the reviewer is of the common letters, the page of Alice's.
    page = browse(alice).get(f"/p/cooking/label/{earlier.assignment_id}/").content.decode()
    assert "Look at C again." in page and key in page


def test_a_letter_says_nothing_of_who_was_sampled_first(project, rank_task):
    firsts = []
    for _ in range(40):
        task = rank_task(k=2)
        letters = letters_of(task.completions.values_list("pk", flat=True))
        firsts.append(min(letters) == min(letters, key=letters.get))
    assert 8 < sum(firsts) < 32


@pytest.mark.parametrize("names", [{"letters": ["C", "A", "B"]}, {"shown_order": [1, 2, 0]}, {}])
def test_an_import_keeps_the_letters_that_its_reasons_speak_of(project, bring, names):
    """A file that names none is of a time in which they were the order shown."""
    bring([ranking(reason="A errs.", **names)])
    stored = Ranking.objects.get()
    if names:
        texts = {each.completion_id: each.completion.text for each in stored.placed}
        assert {letter: texts[pk] for pk, letter in stored.letters.items()} == {
            "A": "b", "B": "c", "C": "a",
        }  # fmt: skip
    else:
        assert stored.letters == letters_of(stored.places)


def test_an_export_says_what_each_completion_was_called(project, alice, rank_task):
    rank_task(k=4)
    work = next_assignment(alice, project)
    placed = [Placement(completion_id=pk, place=n) for n, pk in enumerate(work.shown_order, 1)]
    Ranking.record(assignment=work, placements=placed)
    [line] = [json.loads(line) for line in lines(project, "rankings")]
    texts = dict(work.task.completions.values_list("text", "pk"))
    assert line["letters"] == [work.letters[texts[text]] for text in line["completions"]]
