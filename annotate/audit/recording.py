"""Recording what is done: `with recorded():` around a change writes the entry of the act under way
at its end, in the same transaction, so that there is neither one without the other.

Nothing is written for what changed nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from django.apps import apps
from django.db import connection, models, transaction

from annotate.audit.entries import AuditEntry
from feedback_site.web import request_id

WRITES = re.compile(r'\s*(INSERT INTO|UPDATE|DELETE FROM) "?(\w+)')
VERBS = {"INSERT INTO": "added", "UPDATE": "changed", "DELETE FROM": "removed"}
# Of these fields the values may be kept: nobody has typed them.
PLAIN = (
    *(models.BooleanField, models.IntegerField, models.FloatField, models.DecimalField),
    *(models.DateTimeField, models.DateField, models.DurationField, models.ForeignKey),
)


@dataclass
class Act:
    """Who does what. What is not known when it begins can be filled in till it ends."""

    action: str
    actor: int | None = None
    project: int | None = None
    thing: models.Model | None = None
    details: dict[str, Any] = field(default_factory=dict)
    finish: Callable[[Act], None] | None = None  # called last, for what is known only then
    is_recorded: bool = False  # a transaction that will end with its entry is open


_under_way: ContextVar[Act | None] = ContextVar("audit_act", default=None)


@contextmanager
def performing(act: Act) -> Iterator[Act]:
    """Whatever is `recorded` within is part of `act`."""
    token = _under_way.set(_under_way.get() or act)
    try:
        yield act
    finally:
        _under_way.reset(token)


@contextmanager
def recorded() -> Iterator[None]:
    """A transaction that ends with the entry of the act under way, if one is."""
    act = _under_way.get()
    with transaction.atomic():
        if act is None or act.is_recorded:
            yield
            return
        act.is_recorded = True
        try:
            named, before = act.thing, plain_values(act.thing)
            with _counted_writes() as wrote:
                yield
            if wrote and not connection.needs_rollback:
                _write(act, before if act.thing is named else {}, wrote)
        finally:
            act.is_recorded = False


@contextmanager
def recording(act: Act) -> Iterator[Act]:
    with performing(act), recorded():
        yield act


def about(thing: models.Model, *, by: models.Model | None = None) -> None:
    """Says of which thing the act under way is, if one is, and who does it: where the address does
    not name it, and nobody is signed in yet."""
    act = _under_way.get()
    if act is not None:
        act.thing = thing
        act.actor = act.actor or (by.pk if by else None)
        act.project = act.project or project_id(thing)


def project_id(thing: models.Model | None) -> int | None:
    """The project of a row, or the one that it is."""
    if thing is not None and thing._meta.label == "annotate.Project":
        return int(thing.pk)
    found: int | None = getattr(thing, "project_id", None)
    return found


def plain_values(thing: models.Model | None) -> dict[str, Any]:
    """The present values of a row in the fields where no text, secret or name can be."""
    if thing is None:
        return {}
    fields = [each.attname for each in thing._meta.concrete_fields if _is_plain(each)]
    rows = type(thing)._base_manager.filter(pk=thing.pk)
    values = rows.values(*fields).first() if thing.pk else None
    return {name: _in_json(value) for name, value in (values or {}).items()}


def thing_of(label: str, column: str, value: Any, *, project: int | None) -> models.Model | None:
    """The row of the model `label` with this value, if it is of this project."""
    model = apps.get_model(label)
    rows = model._base_manager.filter(**{column: value})
    if project and any(each.name == "project" for each in model._meta.concrete_fields):
        rows = rows.filter(project=project)
    return rows.first()


def _write(act: Act, before: dict[str, Any], wrote: Counter[tuple[str, str]]) -> None:
    if act.finish:
        act.finish(act)
    after = plain_values(act.thing)
    differ = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    tables: dict[str, dict[str, int]] = {}
    for (table, verb), count in sorted(wrote.items()):
        tables.setdefault(table, {})[verb] = count
    details: dict[str, Any] = {**act.details, "wrote": tables}
    if differ:
        details["before"] = {name: before.get(name) for name in differ}
        details["after"] = {name: after.get(name) for name in differ}
    AuditEntry.append(
        action=act.action,
        actor=act.actor,
        project=act.project,
        about=_said(act.thing),
        details=details,
        request_id=request_id.current.get(),
    )


@contextmanager
def _counted_writes() -> Iterator[Counter[tuple[str, str]]]:
    """Counts the rows that statements add, change and remove, by table."""
    wrote: Counter[tuple[str, str]] = Counter()

    def count(
        execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        result = execute(sql, params, many, context)
        found = WRITES.match(sql) if isinstance(sql, str) else None
        if found and (rows := context["cursor"].rowcount) > 0:
            wrote[found[2], VERBS[found[1]]] += rows
        return result

    with connection.execute_wrapper(count):
        yield wrote


def _is_plain(each: models.Field[Any, Any]) -> bool:
    return isinstance(each, PLAIN) or bool(isinstance(each, models.CharField) and each.choices)


def _in_json(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _said(thing: models.Model | None) -> str:
    return f"{thing._meta.model_name}:{thing.pk}" if thing is not None else ""
