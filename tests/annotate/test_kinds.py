"""The registry of the kinds of label."""

import pytest
from django.db import connection
from django.template.loader import get_template

from annotate.labelling.hot_queries import tasks_for
from annotate.labels.kinds import KINDS, NoLabelKind, kind_of
from annotate.labels.reviews import labels_under_review
from annotate.models import Assignment, Task
from annotate.work.assignments import answers_by_name
from annotate.work.tasks import LEASE_OF, WORK_ORDER

pytestmark = pytest.mark.django_db


def test_every_kind_of_task_but_a_review_has_a_kind_of_label():
    assert set(KINDS) == set(Task.Kind.values) - {Task.Kind.REVIEW}
    assert set(WORK_ORDER) == set(LEASE_OF) == set(Task.Kind.values)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.words.one)
def test_a_kind_has_its_pages_its_table_and_its_words(kind):
    for template in (kind.template, kind.review_template, kind.model.template):
        assert get_template(template)
    assert any(issubclass(kind.model, table) for table in answers_by_name().values())
    assert all(vars(kind.words).values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_review_is_of_the_kind_of_its_subject(kind):
    subject = Task(kind=kind)
    assert kind_of(subject) is kind_of(Task(kind="review", subject=subject)) is KINDS[kind]


POEM = Task(kind="poem")


@pytest.mark.parametrize("task", [POEM, Task(kind="review", subject=POEM)], ids=str)
def test_an_unknown_kind_is_told_by_its_name_and_never_taken_for_a_ranking(task):
    with pytest.raises(NoLabelKind, match="'poem'"):
        kind_of(task)
    with pytest.raises(ValueError, match="'poem'"):
        _ = (task.subject or task).lease
    if task.subject:
        with pytest.raises(NoLabelKind, match="'poem'"):
            labels_under_review(task)


def test_operators_cannot_ask_for_labels_of_an_unknown_kind(browse, project, olga, new_prompt):
    new_prompt()
    client = browse(olga)
    response = client.post(f"/p/{project.slug}/prompts/tasks/", {"kind": "poem"})
    assert response.status_code == 404
    assert not Task.objects.exists()


def test_the_queue_reads_its_index_in_order(project, alice, new_prompt):
    """The planner must see that the order of kinds is that of the index: no sort of all tasks."""
    prompt = new_prompt()
    tasks = [Task(project=project, prompt=prompt, kind=k) for k in ("write", "rank") * 2000]
    Task.objects.bulk_create(tasks)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE annotate_task")
    waiting = tasks_for(alice, project, ["rank", "write"])
    plan = waiting[:1].explain()
    assert "open_tasks_in_order" in plan
    assert "Sort" not in plan
    kinds = list(waiting.values_list("kind", flat=True))
    assert kinds == ["rank"] * 2000 + ["write"] * 2000


def test_an_answer_is_found_through_the_table_of_its_kind():
    assert {*answers_by_name()} == {"demonstrations", "rankings", "talks"}
    assert Assignment(pk=0).label is None
