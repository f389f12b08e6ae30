"""A prepared query answers as the queryset it was made of."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import IntegrityError, connection, connections, transaction
from django.db.models.functions import Upper

from annotate.models import Membership, User
from feedback_site.prepared import prepared, prepared_update


def members(slug):
    return Membership.objects.filter(project__slug=slug).order_by("user__username")


QUERIES = {
    "rows": members,
    "joined": lambda slug: members(slug).select_related("user", "project"),
    "annotated": lambda slug: members(slug).annotate(loud=Upper("user__username")),
    "values": lambda slug: members(slug).values_list("user__username", "role"),
    "flat": lambda slug: members(slug).values_list("user__username", flat=True)[:1],
    "with what belongs to them": lambda slug: User.objects.filter(
        memberships__project__slug=slug
    ).prefetch_related("memberships"),
}


@pytest.mark.parametrize("build", QUERIES.values(), ids=QUERIES)
def test_it_answers_as_the_queryset_does_whatever_it_is_told(build, alice, bob, mallory):
    asked = prepared(build)
    for slug in ("cooking", "elsewhere", "nowhere", "'; --"):
        expected = list(build(slug))
        assert asked(slug=slug) == expected
        assert asked.first(slug=slug) == (expected[0] if expected else None)


def test_it_reads_what_comes_along_without_asking_again(alice, django_assert_num_queries):
    asked = prepared(lambda slug: QUERIES["joined"](slug).annotate(loud=Upper("user__username")))
    with django_assert_num_queries(1):
        [found] = asked(slug="cooking")
        assert (found.user.username, found.project.slug, found.loud) == (
            "alice", "cooking", "ALICE",
        )  # fmt: skip


def test_it_locks_the_rows(alice):
    asked = prepared(lambda slug: members(slug).select_for_update(no_key=True, of=("self",)))
    with transaction.atomic():
        assert len(asked(slug="cooking")) == 1


def test_an_update_changes_what_it_is_told_and_says_how_much(alice, bob):
    rename = prepared_update(
        lambda name, first: (User.objects.filter(username=name), {"first_name": first})
    )
    assert rename(name="alice", first="Ada") == 1
    assert rename(name="bob", first="Bo") == 1
    assert rename(name="nobody", first="No") == 0
    assert [User.objects.get(pk=each.pk).first_name for each in (alice, bob)] == ["Ada", "Bo"]


@pytest.mark.django_db(transaction=True)
def test_each_thread_asks_on_a_connection_of_its_own(alice):
    asked = prepared(QUERIES["flat"])

    def ask(_):
        try:
            return asked(slug="cooking")
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(20))) == [["alice"]] * 20


def test_the_database_plans_it_once(alice):
    asked = prepared(QUERIES["joined"])
    for _ in range(12):  # from the sixth time on PostgreSQL may plan for all values
        assert [each.user.username for each in asked(slug="cooking")] == ["alice"]
        assert asked(slug="nowhere") == []
    sql = asked._compiled[2].split("WHERE")[0]
    with connection.cursor() as cursor:
        cursor.execute("SELECT generic_plans + custom_plans FROM pg_prepared_statements "
                       "WHERE starts_with(statement, %s)", [sql])  # fmt: skip
        assert cursor.fetchall() == [(24,)]


def test_what_the_database_refuses_is_an_error_of_djangos(alice, bob):
    rename = prepared_update(
        lambda name, new: (User.objects.filter(username=name), {"username": new})
    )
    with pytest.raises(IntegrityError), transaction.atomic():
        rename(name="alice", new="bob")
    assert rename(name="alice", new="ada") == 1
