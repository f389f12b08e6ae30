"""What the labels of one account weigh in a snapshot, so that a few accounts cannot turn what is
learnt, however many labels they give.

Three rules. Of thumbs, those of one side count only as far as the account gives some of the other
side too: who dislikes whatever is shown says nothing of the answers. An account that nobody has
vouched for says at most half as much as the median account. And a labeler who surely judges less
well than the median one, where several ranked the same, weighs what is measured of them and is no
longer vouched for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from datetime import datetime
from statistics import median
from typing import TypeVar

from annotate.labels.agreement import Ranked
from annotate.labels.label import FROM_GUEST
from annotate.models import Feedback, Project, Ranking
from annotate.quality.reliability import against_the_others, votes_of

VOICE = 0.5  # of the median account: what one says at most that nobody has vouched for
SPARE = 3.0  # thumbs that everybody may give beside the others' mix of sides
FEWEST = 5  # accounts; of fewer, none can be told from the others
LEAST = 0.05  # as a judge weighs at least

Account = TypeVar("Account", bound=Hashable)


def voices(said: Mapping[Account, float], known: Collection[Account]) -> dict[Account, float]:
    """Account → what each of its labels weighs, the heaviest of all 1. `said`: how much each says;
    `known`: those that somebody has vouched for."""
    if len(said) < FEWEST:
        return dict.fromkeys(said, 1.0)
    most = VOICE * median(said.values())
    weights = {each: 1.0 if each in known else min(1.0, most / said[each]) for each in said}
    heaviest = max(weights.values())
    return {each: weight / heaviest for each, weight in weights.items()}


def thumb_weights(
    given: Iterable[tuple[Account, bool]], known: Collection[Account]
) -> dict[tuple[Account, bool], float]:
    """(account, side) → what each such thumb weighs, the heaviest of all 1."""
    counts = Counter(given)
    accounts = dict.fromkeys(account for account, _ in counts)
    if len(accounts) < FEWEST:
        return dict.fromkeys(counts, 1.0)
    even = _even(counts, list(accounts))
    said = {each: even[each, True] + even[each, False] for each in accounts}
    voice = voices(said, known)
    weights = {
        (account, up): voice[account] * even[account, up] / n for (account, up), n in counts.items()
    }
    heaviest = max(weights.values())
    return {key: weight / heaviest for key, weight in weights.items()}


def _even(
    counts: Mapping[tuple[Account, bool], int], accounts: Sequence[Account]
) -> dict[tuple[Account, bool], float]:
    """How many thumbs of each side count: no more than go with those of the other side, by the mix
    that all accounts give, each once, and SPARE thumbs of that mix."""
    both = {each: (counts.get((each, True), 0), counts.get((each, False), 0)) for each in accounts}
    # Laplace's rule: an up and a down that nobody gave.
    up = (1 + sum(ups / (ups + downs) for ups, downs in both.values())) / (2 + len(accounts))
    down = 1 - up
    even: dict[tuple[Account, bool], float] = {}
    for each, (ups, downs) in both.items():
        even[each, True] = min(ups, (downs + SPARE * down) * up / down)
        even[each, False] = min(downs, (ups + SPARE * up) * down / up)
    return even


def weights_of_feedback(
    project: Project, given: Sequence[Feedback], at: datetime | None = None
) -> dict[int, float]:
    """Thumb → its weight; now, or at that moment. Users of a product are accounts of their own,
    and nobody knows them."""
    who = {each.pk: _account_of(each) for each in given}
    known = _known(project, {user for user, _ in who.values()}, at)
    weights = thumb_weights(
        ((who[each.pk], each.thumb_up) for each in given),
        {(user, end_user) for user, end_user in who.values() if user in known and not end_user},
    )
    return {each.pk: weights[who[each.pk], each.thumb_up] for each in given}


def _account_of(thumb: Feedback) -> tuple[int, str]:
    return thumb.user_id, thumb.message.conversation.end_user if thumb.message else ""


def _known(project: Project, people: Collection[int], at: datetime | None) -> set[int]:
    """Those in whom somebody trusts: whom a reviewer has vouched for, and all but guests."""
    unknown = project.memberships.filter(user__in=people).not_vouched_for(at)
    return set(people) - set(unknown.values_list("user", flat=True))


def weights_of_rankings(
    project: Project, rankings: Sequence[Ranking], at: datetime | None = None
) -> dict[int, float]:
    """Ranking → its weight; now, or at that moment."""
    guests = {each.labeler_id for each in rankings if each.source == FROM_GUEST}
    trusted = {each.labeler_id for each in rankings} - guests | _known(project, guests, at)
    ranked = [Ranked(each.prompt_id, each.labeler_id, each.places) for each in rankings]
    weights = labeler_weights(ranked, trusted)
    return {each.pk: weights[each.labeler_id] for each in rankings}


def labeler_weights(rankings: Sequence[Ranked], known: Collection[int]) -> dict[int, float]:
    """Labeler → what each of their rankings weighs. Who is in doubt is no longer known."""
    doubts = doubtful(rankings)
    voice = voices(Counter(each.labeler for each in rankings), set(known) - doubts.keys())
    return {labeler: weight * doubts.get(labeler, 1.0) for labeler, weight in voice.items()}


def doubtful(rankings: Iterable[Ranked]) -> dict[int, float]:
    """Labeler → what their rankings weigh by their reliability, where those of the median person
    weigh 1; of those alone who surely judge less well. Who is right with probability r carries
    2r - 1 of what is known by one who never errs; r is taken at the upper end of its interval, so
    that who is hardly measured counts fully. Of two people nobody can tell which one errs."""
    measured = against_the_others(votes_of(rankings))
    found = {labeler: each.reliability for labeler, each in measured.items() if each.reliability}
    ordinary = 2 * median(each.value for each in found.values()) - 1 if len(found) > 2 else 0.0
    if ordinary <= 0:
        return {}
    tops = {labeler: (2 * each.interval[1] - 1) / ordinary for labeler, each in found.items()}
    return {labeler: max(top, LEAST) for labeler, top in tops.items() if top < 1}
