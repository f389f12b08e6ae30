"""What the labelling cycle asks gives the same rows, prepared or as ordinary querysets."""

import psycopg
import pytest
from django.db import DataError, transaction

from annotate.labelling import hot_queries
from annotate.labelling.queue import next_assignment
from annotate.models import Demonstration, Membership, Task
from feedback_site.prepared import at_once, prepared, prepared_update

KINDS = (Task.Kind.RANK, Task.Kind.WRITE)


def asked(project, alice, work, task):
    """Every query of the module, as it is asked."""
    here = {"labeler": alice.pk, "project": project.pk}
    return {
        "membership_here": lambda q: q(user=alice.pk, slug=project.slug),
        "memberships_of": lambda q: q(user=alice.pk),
        "held_member": lambda q: q(**here),
        "own_assignment": lambda q: q(**here, pk=work.pk),
        "latest_ended": lambda q: q(**here),
        "begun": lambda q: q(**here),
        "held_first": lambda make: [*make(KINDS, False)(**here), *make(KINDS, True)(**here)],
        "still_waiting": lambda make: make(KINDS)(**here, task=task.pk),
        "said_in": lambda q: q(task=task.pk),
    }


@pytest.fixture
def world(project, alice, write_task, rank_task):
    """One answer just given, one task begun, one waiting."""
    write_task(), rank_task()
    Demonstration.record(assignment=next_assignment(alice, project, only="write"), text="Boil it.")
    return asked(project, alice, next_assignment(alice, project), rank_task())


def test_every_query_of_the_module_is_compared(world):
    names = {name for name, q in vars(hot_queries).items() if isinstance(q, prepared)}
    names |= {name for name, q in vars(hot_queries).items() if hasattr(q, "cache_clear")}
    assert names == {*world}


def test_both_ways_give_the_same_rows(world, settings):
    for name, ask in world.items():
        found = []
        for settings.PREPARED_QUERIES in (True, False):
            with transaction.atomic():
                found.append(ask(getattr(hot_queries, name)))
        assert found[0] == found[1], name
        assert found[0], f"{name} finds nothing here, so that nothing is compared"


def test_switched_off_nothing_is_prepared_on_the_server(world, settings, monkeypatch):
    def refuse(*_):
        raise AssertionError("prepared")

    settings.PREPARED_QUERIES = False
    monkeypatch.setattr("feedback_site.prepared._preparing_cursor", refuse)
    with transaction.atomic():
        for name, ask in world.items():
            ask(getattr(hot_queries, name))


@pytest.mark.parametrize("is_prepared", [True, False])
def test_what_is_asked_at_once_sees_what_came_before_it(project, alice, settings, is_prepared):
    settings.PREPARED_QUERIES = is_prepared
    member = alice.memberships.get()

    @prepared_update
    def promote(pk: int):
        return Membership.objects.filter(pk=pk), {"role": "reviewer"}

    @prepared
    def reviewers(project: int):
        return Membership.objects.filter(project=project, role="reviewer").order_by("pk")

    here = {"project": project.pk}
    before, count, after = at_once(
        (reviewers, here), (promote, {"pk": member.pk}), (reviewers, here)
    )
    assert (before, count, after) == ([], 1, [member])


def test_what_is_asked_at_once_waits_for_the_database_once(project, alice, monkeypatch):
    waited = []
    wait = psycopg.Connection.wait
    monkeypatch.setattr(
        psycopg.Connection, "wait", lambda self, *a, **k: waited.append(1) or wait(self, *a, **k)
    )
    here = {"labeler": alice.pk, "project": project.pk}
    [held], begun = at_once((hot_queries.held_member, here), (hot_queries.begun, here))
    assert held.user == alice and begun == []
    together, waited[:] = len(waited), []
    hot_queries.held_member(**here), hot_queries.begun(**here)
    assert together < len(waited)


def test_what_goes_wrong_at_once_is_one_of_djangos_errors(project, alice):
    @prepared_update
    def break_it(pk: int):
        return Membership.objects.filter(pk=pk), {"role": "x" * 11}

    with pytest.raises(DataError), transaction.atomic():
        at_once((break_it, {"pk": alice.memberships.get().pk}))
    assert alice.memberships.get().role == "labeler"


@pytest.mark.parametrize("is_prepared", [True, False])
def test_a_labeler_works_through_the_queue_either_way(
    project, alice, write_task, rank_task, settings, is_prepared
):
    settings.PREPARED_QUERIES = is_prepared
    write, rank = write_task(), rank_task()
    first = next_assignment(alice, project)
    assert first.task == rank and next_assignment(alice, project) == first
    first.skip(reason="other")
    second = next_assignment(alice, project)
    assert second.task == write
    Demonstration.record(assignment=second, text="Boil it.")
    write.refresh_from_db()
    assert write.closed_at and next_assignment(alice, project) is None
