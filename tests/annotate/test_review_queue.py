"""The queue of reviews: opened out of its turn, narrowed, skipped."""

from datetime import timedelta

import pytest
from django.utils import timezone

from annotate.labelling.queue import next_assignment, open_review
from annotate.models import Assignment, Demonstration, Placement, Ranking, Review, Task

REVIEWS = "/p/cooking/review/"


@pytest.fixture
def waiting(project, alice, bob, rank_task, write_task):
    """Reviews of a ranking by alice, of a demonstration by bob and of one by alice, in this
    order."""
    project.random_review_percent = 100
    project.save()
    rank_task(k=3)
    work = next_assignment(alice, project)
    places = [Placement(completion_id=pk, place=n) for n, pk in enumerate(work.shown_order, 1)]
    Ranking.record(assignment=work, placements=places)
    for person in (bob, alice):
        write_task()
        Demonstration.record(assignment=next_assignment(person, project), text="Boil it.")
    return list(Task.objects.of_kind("review").order_by("pk"))


def shown(browse, rita, query):
    return list(browse(rita).get(f"{REVIEWS}?{query}").context["page"].object_list)


def test_each_review_is_a_link_that_leases_this_one(browse, rita, waiting):
    client, last = browse(rita), waiting[-1]
    assert f'href="{REVIEWS}of/{last.pk}/"' in client.get(REVIEWS).content.decode()
    page = client.get(f"{REVIEWS}of/{last.pk}/", follow=True)
    assert page.context["work"].task == last
    assert client.get(f"{REVIEWS}of/{last.pk}/", follow=True).context["work"].task == last
    assert Assignment.objects.by(rita).count() == 1


def test_the_list_is_narrowed_by_reason_labeler_kind_and_age(browse, rita, alice, bob, waiting):
    of_ranking, of_bob, of_alice = waiting
    days_ago = timezone.now() - timedelta(days=2)
    Task.objects.filter(pk=of_bob.pk).update(created_at=days_ago, doubts=["flagged", "random"])
    assert shown(browse, rita, "") == waiting
    assert shown(browse, rita, "reason=flagged") == [of_bob]
    assert shown(browse, rita, "reason=random") == waiting
    assert shown(browse, rita, f"labeler={alice.pk}") == [of_ranking, of_alice]
    assert shown(browse, rita, f"labeler={bob.pk}&kind=rank") == []
    assert shown(browse, rita, "kind=rank") == [of_ranking]
    assert shown(browse, rita, "age=1") == [of_bob]
    assert shown(browse, rita, "age=3") == []
    assert shown(browse, rita, "kind=nonsense&labeler=nobody") == waiting


def test_the_filter_leads_from_one_review_to_the_next(browse, rita, waiting):
    client = browse(rita)
    page = client.get(f"{REVIEWS}next/?kind=write", follow=True)
    assert page.context["work"].task == waiting[1]
    seen = page.context["form"].initial["seen"]
    here = page.request["PATH_INFO"]
    said = {"verdict": "accept", "seen": seen, "score": 7}
    page = client.post(f"{here}?kind=write", said, follow=True)
    assert page.context["work"].task == waiting[2]


def test_with_a_filter_the_review_in_hand_comes_again(browse, project, rita, waiting):
    client = browse(rita)
    next_assignment(rita, project, only="review")  # of another kind than the filter's
    for _ in range(2):
        page = client.get(f"{REVIEWS}next/?kind=write", follow=True)
        assert page.context["work"].task == waiting[1]
    assert Assignment.objects.by(rita).leased().count() == 2
    client.post(f"{REVIEWS}{page.context['work'].pk}/skip/?kind=write")
    page = client.get(f"{REVIEWS}next/?kind=write", follow=True)
    assert page.context["work"].task == waiting[2]


def test_a_skipped_review_stays_with_others_and_opens_again_from_the_list(
    browse, project, rita, olga, waiting
):
    client = browse(rita)
    work = next_assignment(rita, project, only="review")
    page = client.post(f"{REVIEWS}{work.pk}/skip/", follow=True)
    assert page.context["work"].task == waiting[1]
    assert next_assignment(olga, project).task == waiting[0]
    assert open_review(rita, project, waiting[0].pk) is None  # olga has it now
    Assignment.objects.by(olga).update(leased_until=timezone.now())
    again = open_review(rita, project, waiting[0].pk)
    assert (again.pk, again.state) == (work.pk, "leased")


def test_nobody_opens_a_review_of_their_own_answer_or_a_settled_one(
    browse, project, rita, alice, waiting
):
    assert open_review(alice, project, waiting[0].pk) is None
    Review.record(
        assignment=open_review(rita, project, waiting[0].pk),
        verdicts={Ranking.objects.get().pk: "accepted"},
    )
    assert open_review(rita, project, waiting[0].pk) is None
    reply = browse(rita).get(f"{REVIEWS}of/{waiting[0].pk}/", follow=True)
    assert "cannot open this review" in reply.content.decode()


def test_one_demonstration_is_sent_back_by_one_click_and_one_sentence(
    browse, project, rita, waiting
):
    work = open_review(rita, project, waiting[1].pk)
    label = Demonstration.objects.get(labeler__username="bob")
    form = {"verdict": "send_back", "seen": label.pk, "comment": "How long?"}
    assert browse(rita).post(f"{REVIEWS}{work.pk}/", form).status_code == 302
    review = Review.objects.get()
    assert (review.verdict, review.cause, review.score) == ("sent_back", "", None)


def test_the_matrix_begins_with_what_labelers_put_first(browse, project, rita, waiting):
    work = open_review(rita, project, waiting[0].pk)
    page = browse(rita).get(f"{REVIEWS}{work.pk}/")
    assert [row.placed[0].place for row in page.context["rows"]] == [1, 2, 3]
