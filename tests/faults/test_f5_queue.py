"""F5: many labelers at one queue. Nobody gets a place too many, nobody a task twice, nobody hears
"nothing left" while something is."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections

from annotate.labelling.hot_queries import tasks_for
from annotate.labelling.queue import next_assignment
from annotate.models import Demonstration, Membership, Prompt, Task
from tests.faults.conftest import SEED, sized

Kind = Task.Kind
LABELERS = 16


def make_tasks(project, count, chance):
    prompts = [
        Prompt(project=project, messages=[{"role": "user", "content": f"Q{n}"}]).derive()
        for n in range(count)
    ]
    Prompt.objects.bulk_create(prompts)
    Task.objects.bulk_create(
        Task(project=project, prompt=p, kind=Kind.WRITE, overlap=chance.randint(1, 5))
        for p in prompts
    )


def swarm(project, people):
    """Everybody works until the queue has nothing for them. Returns how often that was not so."""
    begin = threading.Barrier(len(people))

    def work(person):
        try:
            begin.wait(timeout=60)
            while assignment := next_assignment(person, project):
                Demonstration.record(assignment=assignment, text=f"{person}'s answer")
                connections.close_all()  # back to the pool, as after a request: there are fewer
            # Places only go and never come here: what is left now was left before.
            return tasks_for(person, project, [Kind.WRITE]).exists()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(people)) as pool:
        return sum(pool.map(work, people))


def figures():
    answers = Counter(Demonstration.objects.values_list("assignment__task", flat=True))
    overlaps = dict(Task.objects.values_list("pk", "overlap"))
    pairs = Counter(Demonstration.objects.values_list("assignment__task", "labeler"))
    return {
        "answers": sum(answers.values()),
        "over_assigned": sum(answers[pk] > overlap for pk, overlap in overlaps.items()),
        "unanswered": sum(answers[pk] < overlap for pk, overlap in overlaps.items()),
        "twice_to_one": sum(count > 1 for count in pairs.values()),
        "late": Demonstration.objects.filter(late=True).count(),
    }


@pytest.fixture
def people(project):
    role = Membership.Role.LABELER
    return [project.admit(name=f"labeler{n}", role=role) for n in range(LABELERS)]


@pytest.mark.django_db(transaction=True)
def test_sixteen_labelers_share_a_queue_exactly(project, people, chance, report):
    tasks = sized(short=60, long=5000)
    make_tasks(project, tasks, chance)
    wanted = sum(Task.objects.values_list("overlap", flat=True))
    false_nothing = swarm(project, people)
    found = figures()
    report(seed=SEED, labelers=LABELERS, tasks=tasks, false_nothing_left=false_nothing, **found)
    assert found == {
        "answers": wanted, "over_assigned": 0, "unanswered": 0, "twice_to_one": 0, "late": 0,
    }  # fmt: skip
    assert false_nothing == 0
