"""How urgent batches are, and who gets their tasks."""

from datetime import timedelta

import pytest
from django.utils import timezone

from annotate.labelling.queue import count_waiting, next_assignment
from annotate.labels.gold import make_gold, unseen_gold
from annotate.models import Demonstration, Ranking, Task
from annotate.work.batches import OF_EACH_PROMPT, Plan, batches, plan_batch
from tests.annotate.answering import rank

AT = "/p/cooking/batches/"


def know(person, *languages, skills=()):
    person.memberships.get().know(languages=languages, skills=skills)


def order(person, project) -> list[str]:
    """The batches of the tasks as they are handed out."""
    found = []
    while work := next_assignment(person, project):
        found.append(work.task.batch)
        work.skip(reason="other")
    return found


def test_of_the_same_priority_what_is_due_earlier_comes_first(browse, project, alice, write_task):
    for name in ("some day", "next week", "tomorrow", "important"):
        write_task(batch=name)
    now = timezone.now()
    plan_batch(project, "next week", Plan(due_at=now + timedelta(days=7)))
    plan_batch(project, "tomorrow", Plan(due_at=now + timedelta(days=1)))
    plan_batch(project, "important", Plan(priority=5))
    assert "The next is due" not in browse(alice).get("/p/cooking/").text
    ordered = ["important", "tomorrow", "next week", "some day"]
    assert [each.name for each in batches(project)] == ordered
    assert order(alice, project) == ordered


def test_home_and_the_task_say_the_last_day_that_was_set(browse, olga, alice, write_task):
    write_task(batch="b")
    browse(olga).post(f"{AT}?batch=b", {"act": "plan", "priority": 0, "due": "2030-05-01"})
    assert "The next is due by Wed 1 May." in browse(alice).get("/p/cooking/").text
    page = browse(alice).get("/p/cooking/label/", follow=True).text
    assert "due Wed 1 May" in " ".join(page.split())
    Task.objects.update(due_at=timezone.now() - timedelta(days=1))
    page = browse(alice).get("/p/cooking/label/", follow=True).text
    assert 'class="hint error">due' in page


@pytest.mark.parametrize(
    ("languages", "skills", "gets"),
    [
        ([], [], ["for all"]),
        (["de"], [], ["for all", "german"]),
        ([], ["law"], ["for all", "law"]),
        (["en", "de"], ["art", "law"], ["for all", "german", "german law", "law"]),
        (["law"], ["de"], ["for all"]),
    ],
)
def test_a_task_goes_to_those_who_know_what_it_asks_for(
    project, alice, bob, write_task, languages, skills, gets
):
    for name, asked in {
        "for all": {}, "german": {"language": "de"}, "law": {"skill": "law"},
        "german law": {"language": "de", "skill": "law"},
    }.items():  # fmt: skip
        write_task(batch=name, **asked)
    know(bob, "de", skills=["law"])  # what others know is of no use to her
    know(alice, *languages, skills=skills)
    assert count_waiting(alice.memberships.get(), at_most=9)["write"] == len(gets)
    assert sorted(order(alice, project)) == gets


def test_a_review_is_as_urgent_as_what_it_is_of_and_for_those_who_can_read_it(
    project, alice, rita, write_task
):
    due = timezone.now() + timedelta(days=1)
    write_task(priority=3, due_at=due, language="de", skill="law")
    know(alice, "de", skills=["law"])
    Demonstration.record(assignment=next_assignment(alice, project), text="Ja.")
    task = Task.objects.get(kind="write")
    task.ask_for_review(["random"])
    review = task.reviews.get()
    assert (review.priority, review.due_at) == (3, due)
    assert next_assignment(rita, project, only="review") is None
    know(rita, "de", skills=["law"])
    assert next_assignment(rita, project, only="review").task == review


def test_gold_asks_for_what_the_task_asked_for(project, alice, bob, rank_task):
    rank_task(2, language="de")
    know(alice, "de")
    rank(alice, project, [0, 1])
    make_gold(Ranking.objects.get())
    member = bob.memberships.get()
    assert not unseen_gold(member).exists()
    know(bob, "de")
    assert unseen_gold(bob.memberships.get()).exists()


def test_an_operator_sets_what_a_batch_asks_for(browse, project, olga, alice, write_task):
    for _ in range(2):
        write_task(batch="urgent & late")
    closed = write_task(batch="urgent & late")
    closed.retire()
    client = browse(olga)
    where = f"{AT}?batch=urgent+%26+late"
    assert "1 of 3" in client.get(where).text
    form = {"act": "plan", "priority": 4, "due": "2026-01-31", "language": "de", "skill": "law"}
    assert client.post(where, form).status_code == 302
    [batch] = batches(project)
    assert (batch.plan.priority, str(batch.plan.last_day)) == (4, "2026-01-31")
    assert (batch.languages, batch.skills, batch.unmet) == (["de"], ["law"], ["de", "law"])
    closed.refresh_from_db()
    assert closed.priority == 0
    page = client.get(AT).text
    assert "overdue" in page and "no member has" in page
    know(alice, "de", skills=["law"])
    assert "no member has" not in client.get(AT).text
    assert 'value="2026-01-31"' in client.get(where).text
    # The button that closes lies behind one that says how many.
    shown = " ".join(client.get(where).text.split())
    asked, act = shown.split("Close the 2 open tasks…</summary>")
    assert 'value="close"' not in asked and 'value="close"' in act.split("</details>")[0]
    client.post(where, {"act": "close"})
    assert batches(project) == [] and client.get(where).status_code == 404


@pytest.mark.parametrize("wrong", [{"priority": "x"}, {"due": "soon"}, {"skill": "s" * 51}])
def test_a_plan_that_makes_no_sense_changes_nothing(browse, olga, project, write_task, wrong):
    write_task(batch="b")
    reply = browse(olga).post(f"{AT}?batch=b", {"act": "plan", "priority": 1, **wrong})
    assert reply.status_code == 422 and 'class="errorlist"' in reply.text
    assert batches(project)[0].plan == Plan()


def test_each_prompt_asks_for_its_own_language(project, new_prompt):
    texts = ("Was ist das und wie schreibe ich es?", "What is the use of it?", "42")
    tasks = [
        Task.objects.create(project=project, prompt=new_prompt(text), kind="write", batch="mixed")
        for text in texts
    ]
    assert plan_batch(project, "mixed", Plan(language=OF_EACH_PROMPT)) == 3
    assert [Task.objects.get(pk=task.pk).language for task in tasks] == ["de", "en", ""]
    assert batches(project)[0].plan.language == OF_EACH_PROMPT


def test_tasks_opened_later_are_as_urgent_as_their_batch(browse, olga, project, new_prompt):
    client = browse(olga)
    for text in ("Boil?", "Fry?"):
        prompt = new_prompt(text)
        client.post(
            "/p/cooking/prompts/tasks/", {"kind": "write", "chosen": prompt.pk, "batch": "b"}
        )
        plan_batch(project, "b", Plan(priority=7, language="de")) if text == "Boil?" else None
    assert {*project.tasks.values_list("batch", "priority", "language")} == {("b", 7, "de")}


def test_a_lead_says_what_a_member_knows(browse, rita, alice, olga, project):
    member = alice.memberships.get()
    where = f"/p/cooking/labelers/{member.pk}/"
    said = {"act": "know", "languages": "EN, de,de", "skills": "law,  family   medicine,"}
    assert browse(rita).post(where, said).status_code == 302
    member.refresh_from_db()
    assert (member.languages, member.skills) == (["de", "en"], ["family medicine", "law"])
    assert 'value="de, en"' in browse(rita).get(where).text
    assert "family medicine" in browse(olga).get("/p/cooking/labelers/members/").text
    for wrong in ({"languages": "German!"}, {"skills": "x" * 51}):
        reply = browse(rita).post(where, {**said, **wrong})
        assert reply.status_code == 422 and 'class="errorlist"' in reply.text
    other = olga.memberships.get(project=project)
    assert browse(rita).post(f"/p/cooking/labelers/{other.pk}/", said).status_code == 403
    member.refresh_from_db()
    assert member.languages == ["de", "en"]
