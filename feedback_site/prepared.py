"""Queries whose SQL is made once, and planned once.

Django builds and compiles a query anew each time it is asked, and PostgreSQL plans it anew: one to
four milliseconds for what is answered in a tenth of one. Where a labeler waits, and the same few
queries come with every task, the compiled statement is kept, here and as a prepared statement of
the connection, and only its values change.

    @prepared
    def completions_of(task: int) -> QuerySet[Completion]:
        return Completion.objects.filter(tasks=task).order_by("pk")

    completions_of(task=5)  # a list

The function runs once, with placeholders for its arguments. Whatever else it computes is fixed from
then on: the time, above all, comes from the database (`Now()`). With the setting `PREPARED_QUERIES`
off it runs each time with the values themselves, as an ordinary queryset does."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from functools import cached_property
from typing import Any, Generic, ParamSpec, TypeVar

import psycopg
from django.conf import settings
from django.db import connections
from django.db.models import Expression, QuerySet
from django.db.models.sql import UpdateQuery

Values = ParamSpec("Values")
Row = TypeVar("Row")


class Given(Expression):
    """The place of a value that is told when the statement runs."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        return "%s", [self]


def _with_places(build: Callable[..., Any]) -> Any:
    return build(**{name: Given(name) for name in inspect.signature(build).parameters})


def _told(params: tuple[Any, ...], values: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(values[each.name] if isinstance(each, Given) else each for each in params)


class _PreparingCursor(psycopg.Cursor[Any]):
    """Sends the values apart from the statement, which Django's own cursors do not."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> _PreparingCursor:
        return super().execute(query, params, prepare=True, **options)


@contextmanager
def _preparing_cursor(connection: Any) -> Iterator[Any]:
    """Within what Django puts around every cursor. Its log wants the values in the statement."""
    with connection.cursor() as cursor:
        if not connection.queries_logged:
            cursor.cursor = _PreparingCursor(connection.connection)
        yield cursor


class prepared(Generic[Values, Row]):
    """The rows of the queryset that `build` returns. Values are given by name."""

    def __init__(self, build: Callable[Values, QuerySet[Any, Row]]) -> None:
        self.build = build

    @cached_property
    def _compiled(self) -> tuple[Any, Any, str, tuple[Any, ...]]:
        queryset = _with_places(self.build)
        compiler = queryset.query.get_compiler(queryset.db)
        sql, params = compiler.as_sql()
        converters = compiler.get_converters([s[0] for s in compiler.select[: compiler.col_count]])
        compiler.get_converters = lambda _: converters
        return queryset, compiler, sql, params

    def __call__(self, *_: Values.args, **values: Values.kwargs) -> list[Row]:
        if not settings.PREPARED_QUERIES:
            return list(self.build(*_, **values))
        with _preparing_cursor(connections[self.db]) as cursor:
            self.send(cursor, values)
            return self.receive(cursor)

    @property
    def db(self) -> str:
        return str(self._compiled[0].db)

    def send(self, cursor: Any, values: dict[str, Any]) -> None:
        _, _, sql, params = self._compiled
        cursor.execute(sql, _told(params, values))

    def receive(self, cursor: Any) -> list[Row]:
        queryset, compiler, _, _ = self._compiled
        compiler = copy(compiler)
        compiler.connection = connections[queryset.db]
        rows = cursor.fetchall()
        # Django makes objects of the rows as ever; it only finds them there.
        compiler.execute_sql = lambda *_args, **_kwargs: [rows]
        query = copy(queryset.query)
        query.get_compiler = lambda *_args, **_kwargs: compiler
        asked: Any = type(queryset)(queryset.model, query, queryset.db)
        asked._iterable_class = queryset._iterable_class
        asked._prefetch_related_lookups = queryset._prefetch_related_lookups
        return list(asked)

    def first(self, *_: Values.args, **values: Values.kwargs) -> Row | None:
        """The first row, or None. It reads what the query gives: let that be limited."""
        return next(iter(self(*_, **values)), None)


class prepared_update(Generic[Values]):
    """Changes the rows of the queryset that `build` returns, setting the fields it returns with it.
    Says how many rows there were."""

    def __init__(self, build: Callable[Values, tuple[QuerySet[Any], dict[str, Any]]]) -> None:
        self.build = build

    @cached_property
    def _compiled(self) -> tuple[str, str, tuple[Any, ...]]:
        rows, fields = _with_places(self.build)
        query = rows.query.chain(UpdateQuery)
        query.add_update_values(fields)
        return rows.db, *query.get_compiler(rows.db).as_sql()

    def __call__(self, *_: Values.args, **values: Values.kwargs) -> int:
        if not settings.PREPARED_QUERIES:
            rows, fields = self.build(*_, **values)
            return rows.update(**fields)
        with _preparing_cursor(connections[self.db]) as cursor:
            self.send(cursor, values)
            return self.receive(cursor)

    @property
    def db(self) -> str:
        return self._compiled[0]

    def send(self, cursor: Any, values: dict[str, Any]) -> None:
        _, sql, params = self._compiled
        cursor.execute(sql, _told(params, values))

    def receive(self, cursor: Any) -> int:
        return int(cursor.rowcount)


def at_once(*asked: tuple[Any, dict[str, Any]]) -> list[Any]:
    """What these prepared queries and updates give, each with its values, in one round trip. The
    database runs them one after the other: each sees what the ones before did, and any lock that
    they waited for.

        [held], [task] = at_once((held_member, {"labeler": 7}), (first_task, {"labeler": 7}))"""
    connection = connections[asked[0][0].db] if settings.PREPARED_QUERIES else None
    if connection is None or connection.queries_logged or not psycopg.Pipeline.is_supported():
        return [query(**values) for query, values in asked]
    with ExitStack() as open_ones:
        cursors = [open_ones.enter_context(_preparing_cursor(connection)) for _ in asked]
        with connection.wrap_database_errors, connection.connection.pipeline():
            for cursor, (query, values) in zip(cursors, asked, strict=True):
                query.send(cursor, values)
        return [query.receive(cursor) for cursor, (query, _) in zip(cursors, asked, strict=True)]
