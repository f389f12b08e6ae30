"""Judges beside people: a model ranks tasks by a rubric, and counts nowhere unless it is asked
for."""

import time
from threading import Thread
from uuid import uuid4

import pytest
from django.core.exceptions import ValidationError
from django.db import connection as database
from django.utils import timezone

from annotate import jobs
from annotate.chat import inference
from annotate.connections.asked_once import LEASE
from annotate.judges.models import Judge
from annotate.judges.questions import JudgeQuestion
from annotate.judges.report import Report
from annotate.judges.runs import JudgeRanking
from annotate.judges.weights import LEAST, weight_of
from annotate.models import Assignment, Placement, Ranking
from annotate.quality.labelers import doubly_ranked, labelers
from tests.annotate.answering import rank

HOME = "/p/cooking/judges/"
RUBRIC = "The answer with the lower number is the better one."


def answers_in(request):
    """The texts that the judge is shown, in their order."""
    lines = request["messages"][1]["content"].splitlines()
    return [line for line in lines if line.startswith("Answer ")]


def by_the_rubric(request):
    """What a judge says who follows it: of two the lower number, else 7 less the number."""
    shown = answers_in(request)
    if len(shown) == 2:
        return f"Thinking.\nVerdict: {'A' if shown[0] < shown[1] else 'B'}"
    return f"Verdict: {7 - int(shown[0][-1])}"


@pytest.fixture
def judge(project, olga, chef):
    return Judge.objects.create(
        project=project, name="strict", policy=chef, rubric=RUBRIC, author=olga
    )


@pytest.fixture
def ranked(project, alice, bob, rank_task):
    """Makes so many tasks of `k` completions that alice ranked by the number in the text; bob, who
    agrees with her or does not, ranked the first ones."""

    def make(count, k=2, *, bobs=0, agrees=True):
        tasks = [rank_task(k, overlap=2) for _ in range(count)]
        for number in range(count):
            rank(alice, project, list(range(k)))
            if number < bobs:
                rank(bob, project, list(range(k)) if agrees else list(range(k))[::-1])
        return tasks

    return make


def states(judge):
    return judge.questions.counts()


@pytest.mark.django_db(transaction=True)
def test_a_judge_is_added_is_given_tasks_and_its_page_says_how_far_it_agrees(
    browse, olga, project, chef, ranked, model_server, monkeypatch
):
    ranked(4, k=3, bobs=2)
    client = browse(olga)
    assert "No judges yet" in client.get(HOME).content.decode()
    said = {"name": "strict", "policy": chef.pk, "rubric": RUBRIC, "form": "pair"}
    page = client.post(f"{HOME}new/", said, follow=True).content.decode()
    assert "strict is added" in page and "Give it tasks that people have ranked" in page
    judge = Judge.objects.get()
    where = f"{HOME}{judge.pk}/"
    page = client.post(f"{where}run/", {"scope": "ranked", "budget": 3}, follow=True)
    assert "strict has 3 tasks now." in page.content.decode()
    assert "0 of 18 questions answered" in page.content.decode()
    model_server.says_to = by_the_rubric
    model_server.usage = {"prompt_tokens": 50, "completion_tokens": 4}
    assert jobs.look() == 18
    assert jobs.look() == 0
    request = model_server.asked[0]
    assert request["temperature"] == 0.0
    assert RUBRIC in request["messages"][0]["content"]
    assert "You are a cook." not in request["messages"][0]["content"]
    page = client.get(where).content.decode()
    assert "Agrees with people</dt><dd>100%" in page
    assert "First shown wins</dt><dd>50%" in page
    assert "None." in page, "nothing is contradicted"
    levels, tags = Report(judge).levels * 21, Report(judge).by_length * 3
    monkeypatch.setattr(Report, "levels", levels)
    monkeypatch.setattr("annotate.judges.report.TAGS_SHOWN", 2)
    monkeypatch.setattr("annotate.judges.report.by_tag", lambda tasks: tags)
    page = client.get(where).content.decode()
    assert page.count('data-label="Share of tasks"') == len(levels) > 12
    assert f"2 of {len(tags)} are shown" in page
    monkeypatch.undo()
    assert client.get(f"{where}?at=99").status_code == 200
    assert client.get(f"{where}?at=x").status_code == 200
    report = Report(judge)
    assert (report.ranked, len(report.beside)) == (3, 3)
    assert report.agreement.trials == sum(len(each.people) for each in report.beside) * 3
    assert client.post(f"{where}run/", {"scope": "ranked", "budget": 50}).status_code == 302
    reply = client.post(f"{where}run/", {"scope": "ranked", "budget": 50})
    assert reply.status_code == 422, "each task is given once"
    assert "There is no task left that people have ranked" in reply.content.decode()
    assert "strict" in client.get(HOME).content.decode()


@pytest.mark.django_db(transaction=True)
def test_the_list_of_judges_reads_all_rankings_once_for_each_state(
    browse, olga, bob, project, judge, ranked, model_server, monkeypatch
):
    read = []
    measure = Report.agreement.fget
    monkeypatch.setattr(Report, "agreement", property(lambda it: read.append(1) or measure(it)))
    ranked(2)
    judge.start(scope="ranked", budget=2, by=olga)
    model_server.says_to = by_the_rubric
    jobs.look()
    client = browse(olga)
    assert client.get(HOME).text.count("100%") == client.get(HOME).text.count("100%") > 0
    assert len(read) == 1
    rank(bob, project, [1, 0])
    assert "67%" in client.get(HOME).text
    assert len(read) == 2


@pytest.mark.django_db(transaction=True)
def test_a_judge_by_ratings_ranks_open_tasks_too(project, judge, rank_task, ranked, model_server):
    Judge.objects.update(form="rating")
    judge.refresh_from_db()
    ranked(1)
    rank_task(3)
    model_server.says_to = by_the_rubric
    judge.start(scope="open", budget=10, by=judge.author)
    assert jobs.look() == 3
    ranking = judge.rankings.get()
    texts = ranking.task.completions.in_bulk()
    assert {texts[pk].text: place for pk, place in ranking.places_by_id.items()} == {
        "Answer 0": 1,
        "Answer 1": 2,
        "Answer 2": 3,
    }
    assert ranking.confidence == pytest.approx((1 + 2 + 1) / 3 / 6)
    assert Report(judge).beside == [], "people have not ranked it"


@pytest.mark.django_db(transaction=True)
def test_what_a_judge_says_is_nobodys_answer(
    project, alice, judge, ranked, rank_task, model_server
):
    """Neither a label nor a place in a task, so that nothing that counts people can meet it."""
    ranked(3, bobs=3)
    rank_task(2)

    def counted():
        rankings = doubly_ranked(project)
        return (
            Ranking.objects.count(),
            Placement.objects.count(),
            Assignment.objects.count(),
            [(each.member.pk, each.answered, each.peers) for each in labelers(project, rankings)],
            list(project.tasks.values_list("pk", "closed_at")),
            project.memberships.count(),
        )

    before = counted()
    model_server.says_to = by_the_rubric
    for scope in ("ranked", "open"):
        judge.start(scope=scope, budget=10, by=judge.author)
    assert [jobs.look() for _ in range(3)] == [6, 2, 0], "one run after the other"
    assert judge.rankings.complete().count() == 4
    assert counted() == before


@pytest.mark.django_db(transaction=True)
def test_a_reply_that_cannot_be_read_is_asked_for_once_more_and_then_counted(
    browse, olga, judge, ranked, model_server
):
    ranked(2)
    replies = iter(["Both are fine.", "Verdict: A", "Hm", "Verdict: both", "A", "B"])
    model_server.says_to = lambda request: next(replies)
    judge.policy.connection.parallel = 1
    judge.policy.connection.save()
    judge.start(scope="ranked", budget=10, by=judge.author)
    assert jobs.look() == 4
    assert len(model_server.asked) == 6
    assert states(judge) == {"answered": 3, "unreadable": 1}
    again = model_server.asked[1]["messages"]
    assert [each["role"] for each in again] == ["system", "user", "assistant", "user"]
    assert again[2]["content"] == "Both are fine."
    first, second = judge.questions.order_by("pk")[:2]
    assert (first.said, first.replies, first.reply) == ("A", 2, "Verdict: A")
    assert (second.said, second.replies, second.reply) == ("", 2, "Verdict: both")
    assert [each.places for each in judge.rankings.all()] == [{}, judge.rankings.last().places]
    page = browse(olga).get(f"{HOME}{judge.pk}/").content.decode()
    assert 'Unreadable replies</dt><dd>1 <span class="muted small">of 4' in page
    assert "Verdict: both" in page
    assert judge.ask_again() == 0, "it was asked for twice, and not a third time"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("trouble", "ends"),
    [
        ({"fails_first": [429, 503]}, {"answered": 2}),
        ({"fails_first": [500]}, {"answered": 2}),
        ({"raw": [b"data: {not json\n\n"]}, {"failed": 2}),
        ({"breaks_after": 0}, {"failed": 2}),
        ({"status": 400, "body": '{"error": "no"}'}, {"failed": 2}),
    ],
)
def test_a_server_in_trouble(judge, ranked, model_server, trouble, ends):
    ranked(1)
    model_server.says_to = by_the_rubric
    model_server.headers = {"Retry-After": "0"}
    for name, value in trouble.items():
        setattr(model_server, name, value)
    judge.start(scope="ranked", budget=1, by=judge.author)
    assert jobs.look() >= 2
    assert states(judge) == ends
    for name in trouble:
        setattr(model_server, name, {"status": 200, "body": "", "breaks_after": None}.get(name, []))
    judge.ask_again()
    jobs.look()
    assert states(judge) == {"answered": 2}
    assert judge.rankings.complete().exists()


@pytest.mark.django_db(transaction=True)
def test_a_server_that_is_gone_ends_the_run_at_once(judge, ranked, settings):
    ranked(3)
    connection = judge.policy.connection
    connection.base_url = "http://127.0.0.1:9/v1"
    connection.save()
    settings.INFERENCE_ENDPOINTS = [connection.base_url]
    judge.start(scope="ranked", budget=3, by=judge.author)
    assert jobs.look() <= connection.parallel
    assert states(judge) == {"failed": 6}
    assert judge.questions.troubles() == [inference.NOT_ANSWERING]


@pytest.mark.django_db(transaction=True)
def test_what_is_stopped_is_not_asked_and_can_be_asked_later(
    browse, olga, judge, ranked, model_server
):
    ranked(2)
    judge.start(scope="ranked", budget=2, by=judge.author)
    client, where = browse(olga), f"{HOME}{judge.pk}/"
    said = client.post(f"{where}cancel/", follow=True).content.decode()
    assert "Stopped. 4 questions were not asked." in said and "Ask them again" in said
    assert jobs.look() == 0
    said = client.post(f"{where}resume/", follow=True).content.decode()
    assert "4 questions are asked again." in said
    assert "hx-get" in client.get(f"{where}progress/").content.decode()
    model_server.says_to = by_the_rubric
    assert jobs.look() == 4
    assert client.get(f"{where}progress/").headers["HX-Refresh"] == "true"


def test_a_question_of_a_dead_worker_is_not_asked_again_by_itself(judge, ranked):
    ranked(1)
    judge.start(scope="ranked", budget=1, by=judge.author)
    question = judge.questions.claim(uuid4())
    JudgeQuestion.objects.update(leased_until=timezone.now() - LEASE)
    judge.questions.cancel()
    assert jobs.look() == 0
    assert states(judge) == {"interrupted": 1, "cancelled": 1}
    assert question.answer(said="A", reply="A", replies=1), "it was not dead after all"
    judge.questions.answered().update(state="interrupted")
    judge.ask_again()
    assert not question.answer(said="B", reply="B", replies=1), "somebody else asks it now"


def test_a_reply_is_stored_together_with_the_ranking_it_completes(judge, ranked, monkeypatch):
    """A worker may die in between: nobody would rank what is answered already."""
    ranked(1)
    judge.start(scope="ranked", budget=1, by=judge.author)
    question = judge.questions.claim(uuid4())
    monkeypatch.setattr(JudgeRanking, "settle", lambda ranking: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        question.answer(said="A", reply="A", replies=1)
    question.refresh_from_db()
    assert question.state == JudgeQuestion.State.ASKING


@pytest.mark.django_db(transaction=True)
def test_no_two_workers_claim_the_same_question(judge, ranked):
    ranked(4)
    judge.start(scope="ranked", budget=4, by=judge.author)
    claimed = []

    def work():
        while question := judge.questions.claim(uuid4()):
            claimed.append(question.pk)
        database.close()

    workers = [Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(claimed) == sorted(judge.questions.values_list("pk", flat=True))


def test_an_edit_of_a_judge_that_was_asked_is_a_new_version(browse, olga, judge, chef, ranked):
    where, said = f"{HOME}{judge.pk}/edit/", {"policy": chef.pk, "form": "pair"}
    browse(olga).post(where, {**said, "rubric": "Kind."})
    assert Judge.objects.get().rubric == "Kind.", "nothing was judged by the old words"
    ranked(1)
    judge.refresh_from_db()
    judge.start(scope="ranked", budget=1, by=olga)
    browse(olga).post(where, {**said, "rubric": "Kind."})
    assert Judge.objects.count() == 1, "nothing has changed"
    reply = browse(olga).post(where, {**said, "rubric": "Short.", "name": "other"})
    second = Judge.objects.get(version=2)
    assert reply.headers["Location"] == f"{HOME}{second.pk}/"
    assert (str(second), second.rubric, second.rankings.count()) == ("strict v2", "Short.", 0)
    judge.refresh_from_db()
    assert judge.withdrawn_at and judge.rubric == "Kind."
    assert states(judge) == {"cancelled": 2}
    assert browse(olga).post(where, {**said, "rubric": "Long."}).status_code == 422


def test_a_withdrawn_judge_is_asked_nothing(browse, olga, judge, ranked):
    ranked(1)
    judge.start(scope="ranked", budget=1, by=olga)
    page = browse(olga).post(f"{HOME}{judge.pk}/withdraw/", follow=True).content.decode()
    assert "strict is withdrawn" in page and "Give it tasks" not in page
    assert states(judge) == {"cancelled": 2}
    for refused in (judge.ask_again, lambda: judge.start(scope="ranked", budget=1, by=olga)):
        with pytest.raises(ValidationError, match="withdrawn"):
            refused()
    assert jobs.look() == 0


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "strict"}, "There is already a judge “strict”."),
        ({"rubric": " "}, "This field is required."),
        ({"rubric": "x" * 5001}, "at most 5000 characters"),
        ({"policy": 999_999}, "Select a valid choice"),
        ({"form": "stars"}, "Select a valid choice"),
    ],
)
def test_a_judge_that_cannot_be_is_refused(browse, olga, judge, chef, changes, complaint):
    said = {"name": "new", "policy": chef.pk, "rubric": RUBRIC, "form": "pair"}
    reply = browse(olga).post(f"{HOME}new/", said | changes)
    assert reply.status_code == 422 and complaint in reply.content.decode()
    assert Judge.objects.count() == 1


def test_a_run_is_refused_that_is_too_large(judge, rank_task, monkeypatch):
    rank_task(9)
    monkeypatch.setattr("annotate.judges.models.MOST_QUESTIONS", 71)
    with pytest.raises(ValidationError, match="That is 72 questions"):
        judge.start(scope="open", budget=1, by=judge.author)
    assert not judge.runs.exists() and not judge.rankings.exists()


def test_gold_is_no_task_of_a_judge(judge, ranked):
    ranked(1)
    task = judge.tasks("ranked").get()
    task.gold = Ranking.objects.get()
    task.save()
    assert not judge.tasks("ranked").exists()


@pytest.mark.django_db(transaction=True)
def test_contradictions_of_two_people_are_listed_with_what_they_are_about(
    browse, olga, judge, ranked, model_server
):
    ranked(3, bobs=2)
    model_server.says_to = lambda request: (
        "B" if answers_in(request) == sorted(answers_in(request)) else "A"
    )
    judge.start(scope="ranked", budget=3, by=olga)
    jobs.look()
    report = Report(judge)
    assert report.agreement.value == 0
    assert [(each.found.people, each.found.siding) for each in report.cases] == [(2, 0), (2, 0)]
    page = browse(olga).get(f"{HOME}{judge.pk}/").content.decode()
    for case in report.cases:
        assert f"/p/cooking/prompts/{case.prompt.pk}/" in page
        assert (case.judges_choice.text, case.peoples_choice.text) == ("Answer 1", "Answer 0")


@pytest.mark.django_db(transaction=True)
def test_a_vote_weighs_by_how_often_the_judge_is_right(judge, ranked, model_server):
    assert weight_of(judge) is None, "it has met nobody"
    ranked(12, k=4, bobs=12)
    before = timezone.now()
    model_server.says_to = by_the_rubric
    judge.start(scope="ranked", budget=12, by=judge.author)
    until = time.monotonic() + 60
    while jobs.look() and time.monotonic() < until:
        pass
    assert weight_of(judge) > 0.9
    assert weight_of(judge, before) is None, "at that moment it had said nothing"
    for ranking in judge.rankings.all():
        worst = max(ranking.places.values())
        ranking.places = {pk: worst + 1 - place for pk, place in ranking.places.items()}
        ranking.save()
    assert weight_of(judge) == LEAST, "it is wrong every time"
