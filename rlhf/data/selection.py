"""Which labels a round learns from: filters, and the labels that pass them.

With `until` set, the same filters pass the same labels for ever: a later correction, review or
prompt does not change what was there at that moment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from django.db.models import Exists, F, OuterRef

from annotate.chat.feedback import FeedbackQuerySet
from annotate.chat.preferences import PreferenceQuerySet
from annotate.documents.models import Document, DocumentQuerySet
from annotate.labels.kinds import KINDS
from annotate.labels.kinds.edit import Edit
from annotate.labels.kinds.kind import LabelKind
from annotate.labels.label import LabelQuerySet
from annotate.models import (
    Completion,
    Demonstration,
    Feedback,
    JudgeRanking,
    Placement,
    Preference,
    Project,
    Prompt,
    Ranking,
    Review,
    Task,
)
from annotate.prompts.models import PromptQuerySet
from annotate.prompts.withdrawals import prompts_of, withdrawn_from
from rlhf.data.staleness import stale_in

TRAIN = (Prompt.Split.TRAIN,)
HELD_OUT = (Prompt.Split.VALIDATION, Prompt.Split.TEST)


@dataclass(frozen=True)
class Filters:
    """What is left empty filters nothing, and admits no judge. Labelers and judges are named by
    their ids."""

    since: datetime | None = None
    until: datetime | None = None
    tags: tuple[str, ...] = ()
    accepted_only: bool = False
    labelers: tuple[int, ...] = ()
    held_out_labelers: tuple[int, ...] = ()
    judges: tuple[int, ...] = ()  # admitted by name: without one, what judges say teaches nothing
    policies_since: datetime | None = None
    best_rated: int | None = None  # of a ranking, its best completion at least so: 1 to 7
    without_flags: tuple[str, ...] = ()  # and with none of these flags

    def as_dict(self) -> dict[str, Any]:
        """Returns the filters as plain JSON, without those that are empty."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        plain = {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in values.items()
        }
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in plain.items()
            if value
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Filters:
        """Builds filters from what `as_dict` gave. Raises TypeError for a filter that does not
        exist."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in plain.items()
        }
        for name in ("since", "until", "policies_since"):
            if name in values:
                values[name] = datetime.fromisoformat(values[name])
        return cls(**values)


EVERYTHING = Filters()


def all_demonstrations(project: Project, filters: Filters = EVERYTHING) -> LabelQuerySet:
    """Selects demonstrations that pass the filters, empty ones too, without what a policy said that
    owes something to withdrawn data."""
    labels = _passing(Demonstration.objects.all(), project, filters)
    stale = stale_in(project).policies
    return labels.exclude(distilled_from__in=stale) if stale else labels


def demonstrations(project: Project, filters: Filters = EVERYTHING) -> LabelQuerySet:
    """Selects demonstrations with a text. Held-out labelers are held out of the reward model's
    rankings alone."""
    return all_demonstrations(project, filters).filter(text__regex=r"\S")


def all_rankings(project: Project, filters: Filters = EVERYTHING) -> LabelQuerySet:
    labels = _all_judged(project, filters).filter(outcome=Ranking.Outcome.RANKED)
    best = Placement.objects.filter(ranking=OuterRef("pk"), place=1)
    if filters.best_rated:
        labels = labels.filter(Exists(best.filter(rating__gte=filters.best_rated)))
    if filters.without_flags:
        flagged = best.filter(flags__overlap=list(filters.without_flags))
        labels = labels.filter(~Exists(flagged))
    return labels


def all_bad(project: Project, filters: Filters = EVERYTHING) -> LabelQuerySet:
    """Selects rankings whose labeler found every completion bad."""
    return _all_judged(project, filters).filter(outcome=Ranking.Outcome.ALL_BAD)


def _all_judged(project: Project, filters: Filters) -> LabelQuerySet:
    labels = _passing(Ranking.objects.all(), project, filters)
    if filters.policies_since:
        labels = labels.filter(~_shows_policy_before(filters.policies_since))
    return labels


def rankings(project: Project, filters: Filters = EVERYTHING) -> LabelQuerySet:
    """Selects rankings that prefer something to something, those of held-out labelers too."""
    better = Placement.objects.filter(
        ranking=OuterRef("pk"), ranking__placements__place__gt=F("place")
    )
    return all_rankings(project, filters).filter(Exists(better))


Pairs = list[tuple[LabelKind, LabelQuerySet]]


def pairs(project: Project, filters: Filters = EVERYTHING) -> Pairs:
    """The labels whose text says that it is better than a given completion, by their kinds."""
    found = []
    for kind in KINDS.values():
        if kind.beats:
            labels = _passing(kind.labels.of_project(project), project, filters)
            if since := filters.policies_since:
                labels = labels.exclude(**{f"{kind.beats}__policy__created_at__lt": since})
            found.append((kind, labels))
    return found


def training_pairs(project: Project, filters: Filters) -> Pairs:
    """Without those of held-out labelers, as with rankings."""
    held_out = filters.held_out_labelers
    return [(kind, each.exclude(labeler__in=held_out)) for kind, each in pairs(project, filters)]


@dataclass(frozen=True)
class Outdone:
    """A demonstration that is better than completions which people found bad. It teaches like a
    ranking with the demonstration first and all of these, tied, below it."""

    demonstration: int
    completions: tuple[int, ...]


def outdone(project: Project, filters: Filters = EVERYTHING) -> list[Outdone]:
    """Finds what “all bad” and thumbs down teach: every completion of a ranking that was called all
    bad is worse than a demonstration of its prompt, and a bad answer of the chat is worse than the
    demonstration that was written because of it. Labels of held-out labelers are no part of it, and
    what an edit says of its own original is not said again."""
    held_out = filters.held_out_labelers
    written = demonstrations(project, filters).exclude(labeler__in=held_out)
    refused = all_bad(project, filters).exclude(labeler__in=held_out).order_by()
    found: dict[int, set[int]] = defaultdict(set)
    bad: dict[int, set[int]] = defaultdict(set)
    for prompt, completion in refused.values_list("prompt", "placements__completion"):
        bad[prompt].add(completion)
    if bad:
        for pk, prompt in written.filter(prompt__in=bad).values_list("pk", "prompt"):
            found[pk] |= bad[prompt]
    complained = thumbs(project, filters).filter(thumb_up=False).order_by()
    because = written.filter(
        assignment__task__kind=Task.Kind.WRITE,
        assignment__task__completions__in=complained.values("message__completion"),
    )
    for pk, completion in because.values_list("pk", "assignment__task__completions"):
        found[pk].add(completion)
    originals = Edit.objects.filter(pk__in=found).values_list("pk", "original")
    for pk, original in originals:
        found[pk].discard(original)
    return [Outdone(pk, tuple(sorted(found[pk]))) for pk in sorted(found) if found[pk]]


def complaints(project: Project, filters: Filters, better: Iterable[Outdone]) -> FeedbackQuerySet:
    """Selects the thumbs down on what these demonstrations outdo."""
    completions = {pk for each in better for pk in each.completions}
    down = thumbs(project, filters).filter(thumb_up=False)
    return down.filter(message__completion__in=completions)


def prompts(project: Project, filters: Filters = EVERYTHING) -> PromptQuerySet:
    chosen = PromptQuerySet(Prompt).filter(project=project).active(filters.until)
    chosen = chosen.exclude(pk__in=prompts_of(withdrawn_from(project)).values("pk"))
    if filters.until:
        chosen = chosen.filter(created_at__lte=filters.until)
    if filters.tags:
        chosen = chosen.filter(tags__overlap=list(filters.tags))
    return chosen.order_by("pk")


def held_out_prompts(project: Project, at_most: int) -> list[Prompt]:
    """Returns the prompts that policies are compared on, at most so many. In the order of their
    hashes they are a draw from all imports, where the oldest would be one import; and the same ones
    every time."""
    held_out = prompts(project).in_split(*HELD_OUT)
    return list(held_out.order_by("content_hash")[:at_most])


def count_held_out(project: Project) -> int:
    """On how many prompts policies can be compared."""
    return prompts(project).in_split(*HELD_OUT).count()


def thumbs(project: Project, filters: Filters = EVERYTHING) -> FeedbackQuerySet:
    """Selects what guests thought of answers that have become data. A guest is no labeler: filters
    of labelers and of reviews say nothing of thumbs."""
    return _given(project, filters).of_known(filters.until)


def thumbs_to_look_at(project: Project, filters: Filters = EVERYTHING) -> FeedbackQuerySet:
    """Selects thumbs that wait until a reviewer has looked at the new guest who gave them."""
    return _given(project, filters).of_newcomers(filters.until)


def preferences_to_look_at(project: Project, filters: Filters = EVERYTHING) -> PreferenceQuerySet:
    """Selects comparisons that wait until a reviewer has looked at the new guest who made them."""
    asked = prompts(project, filters).order_by().values("pk")
    given = Preference.objects.of_new_guests(project, filters.until).filter(
        ranking__prompt__in=asked
    )
    given = given.exclude(verdict=Preference.Verdict.SAME).exclude(user__in=withdrawn_from(project))
    if filters.labelers:
        given = given.filter(user__in=filters.labelers)
    if filters.since:
        given = given.filter(ranking__created_at__gte=filters.since)
    if filters.until:
        given = given.filter(ranking__created_at__lte=filters.until)
    return given


def _given(project: Project, filters: Filters) -> FeedbackQuerySet:
    given = Feedback.objects.of_project(project).trainable().of_trusted()
    given = given.undismissed(filters.until)
    given = given.exclude(user__in=withdrawn_from(project))
    asked, since = prompts(project, filters), filters.policies_since
    given = given.on_answers(Completion.objects.of_prompts(asked, policies_since=since))
    if filters.since:
        given = given.filter(created_at__gte=filters.since)
    if filters.until:
        given = given.filter(created_at__lte=filters.until)
    return given.order_by("pk")


def documents(project: Project, filters: Filters = EVERYTHING) -> DocumentQuerySet:
    """Selects documents in force. Nobody has judged them: of the filters, only the date counts."""
    read = Document.objects.of_project(project).current(at=filters.until)
    if filters.until:
        read = read.filter(created_at__lte=filters.until)
    return read.order_by("pk")


def training_rankings(project: Project, filters: Filters) -> LabelQuerySet:
    return rankings(project, filters).exclude(labeler__in=filters.held_out_labelers)


def judge_rankings(project: Project, filters: Filters = EVERYTHING) -> list[JudgeRanking]:
    """Selects what admitted judges say of prompts to train on, where they prefer something: people
    alone measure. A judge that was withdrawn, or whose model owes something to withdrawn data, says
    nothing; nor does one where reviews or ratings are asked for, which it has none of."""
    if not filters.judges or filters.accepted_only or filters.best_rated:
        return []
    asked = prompts(project, filters).in_split(*TRAIN).order_by()
    found = JudgeRanking.objects.of_project(project).complete(filters.until)
    found = found.by_judges_in_use(filters.until).filter(judge__in=filters.judges)
    found = found.filter(task__prompt__in=asked.values("pk"))
    if stale := stale_in(project).policies:
        found = found.exclude(judge__policy__in=stale)
    if filters.since:
        found = found.filter(answered_at__gte=filters.since)
    if filters.policies_since:
        shown = Completion.objects.filter(tasks=OuterRef("task"))
        found = found.filter(~Exists(shown.filter(policy__created_at__lt=filters.policies_since)))
    return [each for each in found.with_completions() if each.prefers]


def held_out_rankings(project: Project, filters: Filters) -> LabelQuerySet:
    """Selects rankings of held-out labelers, on prompts that nobody else's ranking trains the
    reward model on."""
    if not filters.held_out_labelers:
        return rankings(project, filters).none()
    trained = training_rankings(project, filters).in_split(*TRAIN).values("prompt")
    theirs = rankings(project, filters).filter(labeler__in=filters.held_out_labelers)
    outdoing = [each.demonstration for each in outdone(project, filters)]
    better = Demonstration.objects.filter(pk__in=outdoing, prompt__split__in=TRAIN)
    theirs = theirs.exclude(prompt__in=better.order_by().values("prompt"))
    for _, labels in training_pairs(project, filters):
        theirs = theirs.exclude(prompt__in=labels.in_split(*TRAIN).order_by().values("prompt"))
    return theirs.exclude(prompt__in=trained)


def _passing(labels: LabelQuerySet, project: Project, filters: Filters) -> LabelQuerySet:
    labels = labels.in_force(project, filters.until)
    if filters.accepted_only:
        labels = labels.filter(last_verdict=Review.Verdict.ACCEPTED)
    if filters.since:
        labels = labels.filter(created_at__gte=filters.since)
    if filters.tags:
        labels = labels.filter(prompt__tags__overlap=list(filters.tags))
    if filters.labelers:
        labels = labels.filter(labeler__in=filters.labelers)
    return labels.order_by("pk")


def _shows_policy_before(moment: datetime) -> Exists:
    shown = Placement.objects.filter(ranking=OuterRef("pk"))
    return Exists(shown.filter(completion__policy__created_at__lt=moment))
