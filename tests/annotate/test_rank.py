"""Ranking K completions: what is accepted, what is refused and how, and how it is stored."""

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from annotate.labelling.queue import next_assignment
from annotate.labels.kinds.ranking.answer import arranged
from annotate.models import Assignment, Placement, Ranking


@pytest.fixture
def work(project, alice, rank_task):
    rank_task(k=4)
    return next_assignment(alice, project)


@pytest.fixture
def pair(project, alice, rank_task):
    rank_task(k=2)
    return next_assignment(alice, project)


def page(work):
    return f"/p/cooking/label/{work.pk}/"


def lettered(work):
    """A, B, C…, in whatever order they are shown."""
    return sorted(work.letters, key=work.letters.get)


def sent(work, tiers="1234", **fields):
    """A form in which A, B, C… have these tiers; a space leaves one out."""
    places = zip(lettered(work), tiers, strict=True)
    form = {f"place_{pk}": tier.strip() for pk, tier in places}
    return {**form, "idempotency_key": str(uuid.uuid4()), **fields}


def stored(work):
    """The places of A, B, C… as they were stored."""
    places = Ranking.objects.current().get().places
    return [places[pk] for pk in lettered(work)]


def test_the_page_shows_each_completion_in_this_labelers_order_without_its_origin(
    browse, alice, work
):
    html = browse(alice).get(page(work)).content.decode()
    texts = dict(work.task.completions.values_list("pk", "text"))
    positions = [html.index(texts[pk]) for pk in work.shown_order]
    assert positions == sorted(positions)
    assert "base" not in html.split('id="completions"')[1].split("</form>")[0]


@pytest.mark.parametrize(
    ("tiers", "places"),
    [
        ("1234", [1, 2, 3, 4]),
        ("4321", [4, 3, 2, 1]),
        ("1224", [1, 2, 2, 3]),
        ("2233", [1, 1, 2, 2]),
        ("4444", [1, 1, 1, 1]),
        ("1144", [1, 1, 2, 2]),
    ],
)
def test_places_are_dense_and_ties_share_one(browse, alice, work, tiers, places):
    assert browse(alice).post(page(work), sent(work, tiers)).status_code == 302
    assert stored(work) == places


@pytest.mark.parametrize("k", range(2, 10))
def test_two_to_nine_completions_can_be_ranked(project, alice, rank_task, k):
    rank_task(k=k)
    work = next_assignment(alice, project)
    placements = [Placement(completion_id=pk, place=n) for n, pk in enumerate(work.shown_order, 1)]
    Ranking.record(assignment=work, placements=placements)
    assert Placement.objects.count() == k


def test_ratings_flags_and_the_reason_are_stored(browse, alice, work):
    a, b, *_ = lettered(work)
    more = {
        f"rating_{a}": "7",
        f"flags_{b}": ["hallucination", "opinion"],
        "reason": "A is right.",
        "comment": "Hm.",
    }
    browse(alice).post(page(work), sent(work, "1234", **more))
    ranking = Ranking.objects.get()
    best, second, *_ = ranking.placements.all()
    assert (best.completion_id, best.rating, best.flags) == (a, 7, [])
    assert (second.rating, second.flags) == (None, ["hallucination", "opinion"])
    assert (ranking.reason, ranking.comment) == ("A is right.", "Hm.")
    assert ranking.shown_order == work.shown_order


@pytest.mark.parametrize(
    ("tiers", "change", "complaint"),
    [
        ("123 ", {}, "Choose a tier for D too."),
        ("    ", {}, "Choose a tier for A, B, C, D too."),
        (" 1 1", {}, "Choose a tier for A, C too."),
        ("1234", {"place_{a}": ["1", "2"]}, "A has more than one tier."),
        ("1234", {"place_{foreign}": "1"}, "is not part of this ranking."),
        ("1234", {"place_x": "1"}, "is not a number."),
        ("1234", {"place_{a}": "5"}, "5 is not one of the available choices"),
        ("1234", {"place_{a}": "0"}, "0 is not one of the available choices"),
        ("1234", {"rating_{a}": "8"}, "8 is not one of the available choices"),
        ("1234", {"flags_{a}": "boring"}, "boring is not one of the available choices"),
        ("1234", {"reason": "x" * 501}, "at most 500 characters"),
        ("1234", {"outcome": "splendid"}, "splendid is not one of the available choices"),
    ],
)
def test_a_bad_ranking_is_refused_by_name(browse, alice, work, rank_task, tiers, change, complaint):
    names = {"a": lettered(work)[0], "foreign": rank_task().completions.first().pk}
    form = sent(work, tiers) | {name.format(**names): value for name, value in change.items()}
    reply = browse(alice).post(page(work), form)
    assert reply.status_code == 422
    assert complaint in reply.content.decode()
    assert not Ranking.objects.exists() and not Placement.objects.exists()


def test_what_was_chosen_stays_on_the_page_after_a_refusal(browse, alice, work):
    a = lettered(work)[0]
    html = browse(alice).post(page(work), sent(work, "2   ", **{f"rating_{a}": "6"}))
    form = html.context["form"]
    assert (form[f"place_{a}"].value(), form[f"rating_{a}"].value()) == ("2", "6")


def test_all_bad_needs_no_order(browse, alice, work):
    browse(alice).post(page(work), sent(work, " 2  ", outcome="all_bad"))
    assert Ranking.objects.get().outcome == "all_bad"
    assert stored(work) == [2, 1, 2, 2]


def test_cannot_judge_skips(browse, alice, work):
    browse(alice).post(f"{page(work)}skip/", sent(work) | {"skip-reason": "cannot_judge"})
    work.refresh_from_db()
    assert (work.state, work.skip_reason) == ("skipped", "cannot_judge")
    assert not Ranking.objects.exists()


def test_a_skip_can_be_undone_for_30_seconds_with_all_that_was_filled_in(browse, alice, work):
    client = browse(alice)
    client.post(f"{page(work)}skip/", sent(work, "2134") | {"skip-reason": "cannot_judge"})
    assert f'action="{page(work)}undo/"' in client.get("/p/cooking/label/").content.decode()
    client.post(f"{page(work)}undo/")
    form = client.get(page(work)).context["form"]
    assert [form[f"place_{pk}"].value() for pk in lettered(work)] == ["2", "1", "3", "4"]
    work.refresh_from_db()
    assert (work.state, work.skip_reason, work.ended_at) == ("leased", "", None)
    client.post(page(work), sent(work, "2134"))
    assert stored(work) == [2, 1, 3, 4]


def test_a_skip_stays_after_30_seconds(browse, alice, work):
    client = browse(alice)
    client.post(f"{page(work)}skip/", {"skip-reason": "other"})
    Assignment.objects.update(ended_at=timezone.now() - timedelta(seconds=31))
    client.post(f"{page(work)}undo/")
    work.refresh_from_db()
    assert work.state == "skipped"


@pytest.mark.parametrize(
    ("choice", "outcome", "places", "kept"),
    [
        *((f"a{n}", "ranked", [1, 2], n) for n in (4, 3, 2, 1)),
        *((f"b{n}", "ranked", [2, 1], n) for n in (1, 2, 3, 4)),
        ("tie", "ranked", [1, 1], None),
        ("", "all_bad", [1, 1], None),
        ("a2", "all_bad", [1, 2], None),
    ],
)
def test_of_two_one_chooses_the_better_and_by_how_much(
    browse, alice, pair, choice, outcome, places, kept
):
    form = {"choice": choice, "outcome": outcome}
    browse(alice).post(page(pair), form | {"idempotency_key": str(uuid.uuid4())})
    ranking = Ranking.objects.get()
    assert [ranking.places[pk] for pk in pair.shown_order] == places
    assert (ranking.strength, ranking.outcome) == (kept, outcome)


@pytest.mark.parametrize("choice", ["a", "b5", "c1", "t"])
def test_what_is_not_on_the_scale_is_refused(browse, alice, pair, choice):
    form = {"choice": choice, "idempotency_key": str(uuid.uuid4())}
    assert browse(alice).post(page(pair), form).status_code == 422


def test_of_two_something_must_be_chosen(browse, alice, pair):
    reply = browse(alice).post(page(pair), {"idempotency_key": str(uuid.uuid4())})
    assert reply.status_code == 422
    assert "Choose the better one" in reply.content.decode()


@pytest.mark.parametrize(
    "said", [{"strength": 5}, {"strength": 2}, {"outcome": "fine"}, {"pasted_share": 2.0}]
)
def test_the_verb_refuses_what_the_form_would(pair, said):
    from django.core.exceptions import ValidationError

    tie = [Placement(completion_id=pk, place=1) for pk in pair.shown_order]
    with pytest.raises(ValidationError):
        Ranking.record(assignment=pair, placements=tie, **said)
    assert not Ranking.objects.exists()


@pytest.mark.parametrize("wrong", [{"place": 0}, {"rating": 8}, {"rating": 0}, {"flags": ["odd"]}])
def test_no_placement_out_of_range_is_stored(wrong):
    from django.core.exceptions import ValidationError

    with pytest.raises(ValidationError):
        arranged([Placement(completion_id=1, **({"place": 1} | wrong))], {1: "A"}, "ranked")


def test_the_same_ranking_again_is_one_and_another_under_its_key_a_conflict(browse, alice, work):
    client, form = browse(alice), sent(work)
    assert client.post(page(work), form).status_code == 302
    assert client.post(page(work), form).status_code == 302
    assert (
        client.post(
            page(work), form | sent(work, "4321") | {"idempotency_key": form["idempotency_key"]}
        ).status_code
        == 409
    )
    assert Ranking.objects.count() == 1


def test_an_edit_makes_a_revision_with_placements_of_its_own(browse, alice, work):
    client = browse(alice)
    client.post(page(work), sent(work, "1234"))
    form = client.get(page(work)).context["form"]
    assert [form[f"place_{pk}"].value() for pk in lettered(work)] == [1, 2, 3, 4]
    client.post(page(work), sent(work, "4321", revision_no=1))
    assert stored(work) == [4, 3, 2, 1]
    assert [r.placements.count() for r in Ranking.objects.all()] == [4, 4]


def test_a_conflict_shows_the_stored_order(browse, alice, work):
    client = browse(alice)
    client.post(page(work), sent(work, "2113"))
    reply = client.post(page(work), sent(work, "1234"))
    assert reply.status_code == 409
    html = reply.content.decode()
    assert "B = C" in html


@pytest.mark.parametrize("kind", ["many", "pair"])
def test_undo_brings_the_ranking_back_as_it_was_sent(browse, alice, project, rank_task, kind):
    rank_task(k=4 if kind == "many" else 2)
    work = next_assignment(alice, project)
    client, a = browse(alice), lettered(work)[0]
    form = sent(work, "2134") if kind == "many" else {"choice": "b3"}
    form |= {"idempotency_key": str(uuid.uuid4()), f"rating_{a}": "2", f"flags_{a}": "opinion"}
    client.post(page(work), form)
    client.post(f"{page(work)}undo/")
    back = client.get(page(work)).context["form"]
    assert back[f"rating_{a}"].value() == 2
    assert back[f"flags_{a}"].value() == ["opinion"]
    if kind == "many":
        assert [back[f"place_{pk}"].value() for pk in lettered(work)] == [2, 1, 3, 4]
    else:
        assert [mark.key for mark in back.scale if mark.is_chosen] == ["7"]


def test_a_draft_of_a_ranking_comes_back(browse, alice, work):
    client, a = browse(alice), lettered(work)[0]
    client.post(f"{page(work)}draft/", sent(work, "3   ", **{f"flags_{a}": ["opinion"]}))
    form = client.get(page(work)).context["form"]
    assert (form[f"place_{a}"].value(), form[f"flags_{a}"].value()) == ("3", ["opinion"])


def test_ratings_are_hidden_where_the_project_wants_none(browse, alice, project, work):
    assert "unusable" in browse(alice).get(page(work)).content.decode()
    project.rate_before_ranking = False
    project.save()
    assert "rating_" not in browse(alice).get(page(work)).content.decode()


def test_a_completion_cannot_smuggle_markup_in(browse, alice, project, rank_task):
    task = rank_task(k=2)
    task.completions.update(text="<img src=x onerror=alert(1)> [x](javascript:alert(1))")
    work = next_assignment(alice, project)
    html = browse(alice).get(page(work)).content.decode()
    assert "<img" not in html and 'href="javascript' not in html


def test_tiers_are_named_by_the_letters_the_labeler_saw(work):
    a, b, c, d = lettered(work)
    order = {b: 1, a: 2, d: 2, c: 3}
    placements = [Placement(completion_id=pk, place=place) for pk, place in order.items()]
    ranking = Ranking.record(assignment=work, placements=placements)
    assert ranking.tiers == [["B"], ["A", "D"], ["C"]]
