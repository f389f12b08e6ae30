"""Who gets which work: places, leases, order, and many people at once."""

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction
from django.db.models.functions import Now

from annotate.labelling.queue import count_waiting, next_assignment
from annotate.labels.kinds.demonstration import open_write_tasks
from annotate.labels.kinds.ranking.tasks import open_rank_tasks
from annotate.models import Assignment, Demonstration, Membership, Project, Task, User

Kind = Task.Kind
State = Assignment.State


def expire(assignment):
    Assignment.objects.filter(pk=assignment.pk).update(leased_until=Now() - timedelta(seconds=1))


def answer(assignment, text="Boil it."):
    return Demonstration.record(assignment=assignment, text=text)


def test_a_lease_lasts_as_long_as_the_project_says(project, alice, write_task, rank_task):
    project.write_lease_minutes, project.rank_lease_minutes = 40, 20
    project.save()
    for make, minutes in ((write_task, 40), (rank_task, 20)):
        task = make()
        lease = next_assignment(alice, project)
        assert lease.task == task
        length = lease.leased_until - lease.created_at
        assert abs(length - timedelta(minutes=minutes)) < timedelta(seconds=5)
        lease.skip(reason="other")


def test_ranking_comes_before_review_before_writing(project, rita, write_task, rank_task):
    write = write_task(priority=9)
    review = write_task()
    Task.objects.filter(pk=review.pk).update(kind=Kind.REVIEW)
    rank = rank_task()
    order = []
    while assignment := next_assignment(rita, project):
        order.append(assignment.task)
        assignment.skip(reason="other")
    assert order == [rank, review, write]


def test_higher_priority_comes_first_then_the_older(project, alice, write_task):
    tasks = [write_task(priority=p) for p in (0, 5, 0, 5)]
    order = []
    while assignment := next_assignment(alice, project):
        order.append(assignment.task)
        assignment.skip(reason="other")
    assert order == [tasks[1], tasks[3], tasks[0], tasks[2]]


def test_work_begun_is_resumed_even_if_better_work_came(project, alice, write_task):
    write_task()
    begun = next_assignment(alice, project)
    write_task(priority=9)
    assert next_assignment(alice, project) == begun


@pytest.mark.parametrize("overlap", [1, 2, 3])
def test_a_task_has_overlap_places(project, write_task, overlap):
    write_task(overlap=overlap)
    people = [User.objects.create(username=f"labeler{n}") for n in range(4)]
    for person in people:
        project.memberships.create(user=person, role=Membership.Role.LABELER)
    got = [next_assignment(person, project) for person in people]
    assert [bool(assignment) for assignment in got] == [n < overlap for n in range(4)]


def test_an_answer_keeps_its_place_and_the_last_one_closes_the_task(
    project, alice, bob, rita, write_task
):
    task = write_task(overlap=2)
    answer(next_assignment(alice, project))
    task.refresh_from_db()
    assert task.closed_at is None
    answer(next_assignment(bob, project))
    task.refresh_from_db()
    assert task.closed_at is not None
    assert next_assignment(rita, project) is None


def test_nobody_gets_a_task_twice(project, alice, write_task):
    write_task(overlap=3)
    answer(next_assignment(alice, project))
    assert next_assignment(alice, project) is None


def test_a_skip_sticks_and_frees_the_place(project, alice, bob, write_task):
    task = write_task()
    next_assignment(alice, project).skip(reason="unclear")
    assert next_assignment(alice, project) is None
    assert next_assignment(bob, project).task == task


def test_an_expired_lease_frees_the_place_and_keeps_the_draft(project, alice, bob, write_task):
    task = write_task()
    lease = next_assignment(alice, project)
    assert lease.save_draft(draft={"text": "Half a thought"}, active_seconds=9)
    expire(lease)
    assert next_assignment(bob, project).task == task
    lease.refresh_from_db()
    assert lease.draft == {"text": "Half a thought"}


def test_an_expired_lease_comes_back_to_its_labeler_with_the_draft(project, alice, rank_task):
    rank_task()
    lease = next_assignment(alice, project)
    lease.save_draft(draft={"reason": "B is right"}, active_seconds=9)
    expire(lease)
    again = next_assignment(alice, project)
    assert (again.pk, again.draft, again.shown_order) == (
        lease.pk,
        {"reason": "B is right"},
        lease.shown_order,
    )
    assert Assignment.objects.leased().filter(pk=lease.pk).exists()


def test_a_draft_renews_the_lease(project, alice, write_task):
    write_task()
    lease = next_assignment(alice, project)
    Assignment.objects.update(leased_until=Now() + timedelta(seconds=5))
    lease.save_draft(draft={"text": "More"}, active_seconds=1)
    assert lease.leased_until - lease.drafted_at > timedelta(minutes=29)


def test_a_draft_after_the_place_has_gone_is_kept_but_takes_nothing(
    project, alice, bob, write_task
):
    write_task()
    late = next_assignment(alice, project)
    expire(late)
    theirs = next_assignment(bob, project)
    assert late.save_draft(draft={"text": "Still here"}, active_seconds=1) is False
    late.refresh_from_db()
    assert late.draft == {"text": "Still here"}
    assert list(Assignment.objects.leased()) == [theirs]


def test_a_late_answer_is_accepted_while_the_place_is_free(project, alice, write_task):
    task = write_task()
    lease = next_assignment(alice, project)
    expire(lease)
    assert answer(lease).late is False
    task.refresh_from_db()
    assert task.closed_at is not None


def test_a_late_answer_is_kept_as_an_extra_when_the_place_has_gone(project, alice, bob, write_task):
    write_task()
    lease = next_assignment(alice, project)
    expire(lease)
    theirs = next_assignment(bob, project)
    assert answer(lease).late is True
    assert answer(theirs).late is False


@pytest.mark.parametrize(
    ("role", "state", "kinds"),
    [
        ("labeler", "active", {"rank", "write"}),
        ("reviewer", "active", {"rank", "review", "write"}),
        ("operator", "active", {"rank", "review", "write"}),
        ("guest", "active", set()),
        ("labeler", "paused", set()),
        ("operator", "paused", set()),
    ],
)
def test_the_role_decides_what_is_handed_out(project, write_task, rank_task, role, state, kinds):
    person = User.objects.create(username="somebody")
    project.memberships.create(user=person, role=role, state=state)
    write_task()
    rank_task()
    review = write_task()
    Task.objects.filter(pk=review.pk).update(kind=Kind.REVIEW)
    got = set()
    while assignment := next_assignment(person, project):
        got.add(assignment.task.kind)
        assignment.skip(reason="other")
    assert got == kinds


def test_pausing_takes_the_begun_work_away(project, alice, write_task):
    write_task()
    assert next_assignment(alice, project)
    project.memberships.filter(user=alice).update(state=Membership.State.PAUSED)
    assert next_assignment(alice, project) is None


def test_nobody_is_given_work_of_another_project(project, mallory, write_task):
    write_task()
    assert next_assignment(mallory, project) is None
    assert next_assignment(mallory, Project.objects.get(slug="elsewhere")) is None


def test_nobody_reviews_a_prompt_they_labelled(project, rita, olga, write_task):
    task = write_task()
    answer(next_assignment(rita, project))
    Task.objects.create(project=project, prompt=task.prompt, kind=Kind.REVIEW)
    assert next_assignment(rita, project) is None
    assert next_assignment(olga, project).task.kind == Kind.REVIEW


def test_each_labeler_sees_an_order_of_their_own_that_stays(project, rank_task):
    task = rank_task(k=6, overlap=16)
    orders = set()
    for n in range(8):
        person = User.objects.create(username=f"labeler{n}")
        project.memberships.create(user=person, role=Membership.Role.LABELER)
        first = next_assignment(person, project)
        expire(first)
        assert next_assignment(person, project).shown_order == first.shown_order
        assert sorted(first.shown_order) == sorted(task.completions.values_list("pk", flat=True))
        orders.add(tuple(first.shown_order))
    assert len(orders) > 4


def test_the_count_of_waiting_work_stops_where_it_is_told(project, alice, write_task):
    for _ in range(3):
        write_task()
    membership = alice.memberships.get()
    assert count_waiting(membership, at_most=10) == {"rank": 0, "edit": 0, "talk": 0, "write": 3}
    assert count_waiting(membership, at_most=2)["write"] == 2


def test_asking_again_costs_the_same_whatever_the_queue_holds(
    project, alice, write_task, django_assert_num_queries
):
    def queries_of_one_turn():
        from django.test.utils import CaptureQueriesContext

        with CaptureQueriesContext(connection) as captured:
            answer(next_assignment(alice, project))
        return len(captured)

    for _ in range(3):
        write_task()
    few = queries_of_one_turn()
    for _ in range(60):
        write_task()
    assert queries_of_one_turn() == few


# Opening tasks


def completion(prompt, policy, text):
    return prompt.completions.create(policy=policy, text=text, source="sampled")


def test_identical_texts_are_shown_once_and_policies_take_turns(project, new_prompt, policy):
    tuned = project.policies.create(name="tuned", origin="trained")
    prompt = new_prompt()
    old = [completion(prompt, policy, text) for text in ("Same", "Old 1", "Old 2")]
    new = [completion(prompt, tuned, text) for text in (" Same\n", "New 1")]
    assert open_rank_tasks(project, project.prompts.all(), 4, 2, "round 1") == 1
    [task] = project.tasks.all()
    assert (task.kind, task.overlap, task.batch) == (Kind.RANK, 2, "round 1")
    shown = set(task.completions.all())
    assert shown == {old[2], new[1], old[1], new[0]}


def test_a_prompt_needs_two_different_completions_to_be_ranked(project, new_prompt, policy):
    for text in ("Same", "Same "):
        completion(new_prompt("Q") if text == "Same" else project.prompts.get(), policy, text)
    assert open_rank_tasks(project, project.prompts.all(), 4, 1, "b") == 0


def test_a_batch_is_opened_once(project, new_prompt, policy):
    for number in range(3):
        prompt = new_prompt(f"Q{number}")
        for text in "ab":
            completion(prompt, policy, text)
    prompts = project.prompts.all()
    assert open_rank_tasks(project, prompts.exclude(text="Q2"), 4, 1, "b") == 2
    assert open_rank_tasks(project, prompts, 4, 1, "b") == 1
    assert open_rank_tasks(project, prompts, 4, 1, "b") == 0
    assert open_rank_tasks(project, prompts, 4, 1, "another") == 3


def test_only_prompts_without_a_demonstration_are_written(project, alice, new_prompt, write_task):
    answer(write_task() and next_assignment(alice, project))
    write_task()  # open already
    bare = new_prompt("Bare")
    assert open_write_tasks(project, project.prompts.all(), 1, "b") == 1
    assert open_write_tasks(project, project.prompts.all(), 1, "b") == 0
    assert project.tasks.get(batch="b").prompt == bare


def test_foreign_prompts_open_no_tasks(project, mallory, new_prompt):
    new_prompt()
    elsewhere = Project.objects.get(slug="elsewhere")
    assert open_write_tasks(elsewhere, project.prompts.all(), 1, "b") == 0


# Many at once, on real connections


def in_threads(*jobs):
    """Runs the jobs at the same time, each on a connection of its own."""
    start = threading.Barrier(len(jobs))

    def run(job):
        try:
            start.wait(timeout=60)
            return job()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


def labelers(project, count):
    people = [User.objects.create(username=f"labeler{n}") for n in range(count)]
    for person in people:
        project.memberships.create(user=person, role=Membership.Role.LABELER)
    return people


@pytest.mark.django_db(transaction=True)
def test_eight_labelers_at_once_share_200_tasks_without_a_place_too_many(project, new_prompt):
    chance = random.Random(7)
    for n in range(200):
        prompt = new_prompt(f"Q{n}")
        Task.objects.create(
            project=project, prompt=prompt, kind=Kind.WRITE, overlap=chance.choice([1, 2, 3])
        )
    wanted = sum(Task.objects.values_list("overlap", flat=True))

    def work(person):
        def until_nothing_is_left():
            done = 0
            while assignment := next_assignment(person, project):
                answer(assignment, f"{person} says {done}")
                done += 1
            return done

        return until_nothing_is_left

    done = in_threads(*(work(person) for person in labelers(project, 8)))
    answers = Counter(Demonstration.objects.values_list("assignment__task", flat=True))
    overlaps = dict(Task.objects.values_list("pk", "overlap"))
    assert sum(done) == wanted
    assert answers == overlaps
    assert not Demonstration.objects.filter(late=True).exists()
    assert not Task.objects.open().exists()


@pytest.mark.django_db(transaction=True)
def test_one_place_goes_to_one_of_many_who_ask_at_once(project, new_prompt):
    people = labelers(project, 8)
    for n in range(10):
        task = Task.objects.create(project=project, prompt=new_prompt(f"Q{n}"), kind=Kind.WRITE)
        got = in_threads(*(lambda p=p: next_assignment(p, project) for p in people))
        [winner] = [assignment for assignment in got if assignment]
        assert winner.task == task
        answer(winner)


@pytest.mark.django_db(transaction=True)
def test_two_tabs_of_one_person_get_the_same_assignment(project, alice, write_task):
    for _ in range(4):
        write_task()
    got = in_threads(*[lambda: next_assignment(alice, project)] * 4)
    assert len({assignment.pk for assignment in got}) == 1


@pytest.mark.django_db(transaction=True)
def test_a_locked_queue_is_not_an_empty_one(project, alice, write_task):
    task = write_task()
    locked, release = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic():
            Task.objects.select_for_update().get(pk=task.pk)
            locked.set()
            release.wait(timeout=60)

    def ask():
        locked.wait(timeout=60)
        threading.Timer(0.3, release.set).start()
        return next_assignment(alice, project)

    assert in_threads(hold, ask)[1].task == task


def test_an_extra_answer_taken_back_takes_no_place(project, alice, bob, write_task):
    write_task()
    late = next_assignment(alice, project)
    expire(late)
    answer(next_assignment(bob, project))
    extra = answer(late)
    extra.retract(draft={"text": "Boil it."})
    assert not Assignment.objects.leased().exists()
    assert answer(late).late is True
