"""The kinds of label. Whatever is done to labels of all kinds is done by way of this registry; a
kind of its own is one file here, a template for its page, and a migration for its table."""

from __future__ import annotations

from annotate.labels.kinds.demonstration import DemonstrationKind
from annotate.labels.kinds.edit import EditKind
from annotate.labels.kinds.kind import LabelKind
from annotate.labels.kinds.ranking import RankingKind
from annotate.labels.kinds.talk import TalkKind
from annotate.work.tasks import Task

# In the order in which people are offered the work.
KINDS: dict[str, LabelKind] = {
    kind.task: kind for kind in (RankingKind(), EditKind(), TalkKind(), DemonstrationKind())
}
# Those that operators ask for on the pages of prompts.
ABOUT_PROMPTS = {task: kind for task, kind in KINDS.items() if kind.is_about_prompts}
# The names of the fields of completions that a label is better than.
BEATEN = tuple(kind.beats for kind in KINDS.values() if kind.beats)


class NoLabelKind(LookupError):
    """No kind of label answers tasks of this kind."""


def kind_of(task: Task) -> LabelKind:
    """The kind of label that answers a task, or that a review is of. Raises NoLabelKind."""
    asked = task.subject if task.kind == Task.Kind.REVIEW else task
    if asked is None or asked.kind not in KINDS:
        unknown = asked.kind if asked else task.kind
        raise NoLabelKind(f"No kind of label answers tasks of the kind {unknown!r}.")
    return KINDS[asked.kind]
