"""What is odd about the labels a round would learn from. The database counts: a project may hold a
hundred thousand rankings, and an operator waits for the page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from django.conf import settings
from django.db import connection
from django.db.models import Count, F, Func, IntegerField, Q, TextField, Value
from django.db.models.functions import Cast
from django.db.models.functions.text import MD5

from annotate.labels.label import LabelQuerySet
from annotate.models import Policy, Project, Prompt, User
from annotate.prompts.models import PromptQuerySet, content_hash
from annotate.quality.unusual import twins
from rlhf.data.counts import RankingCounts
from rlhf.data.selection import TRAIN, Filters, preferences_to_look_at

FEW_RANKINGS = 10
LABELER_SHARE = 0.3
BYTES_A_TOKEN = 4

# Twice by the same person on the same prompt: word for word, or the other way round.
REPEATS = """
WITH placed AS MATERIALIZED (
    SELECT ranking.id AS ranking, labeler_id AS labeler, completion_id AS completion, place
    FROM annotate_placement AS placement
    JOIN annotate_ranking AS ranking ON ranking.id = placement.ranking_id
    WHERE ranking.id = ANY(%(rankings)s)),
whole AS (
    SELECT labeler, string_agg(completion || ':' || place, ' ' ORDER BY completion) AS verdict
    FROM placed GROUP BY labeler, ranking),
preferred AS (
    SELECT one.labeler, one.completion AS first, other.completion AS second,
           one.place < other.place AS in_order
    FROM placed AS one JOIN placed AS other
      ON other.ranking = one.ranking AND other.completion > one.completion
     AND other.place <> one.place)
SELECT
    (SELECT count(*) - count(DISTINCT (labeler, verdict)) FROM whole),
    (SELECT count(*) FROM (
        SELECT FROM preferred GROUP BY labeler, first, second
        HAVING bool_or(in_order) AND NOT bool_and(in_order)) AS both_ways)
"""
# Prompts that have the same completion twice, or an empty one: an index knows.
SUSPECTS = """
SELECT prompt_id FROM annotate_completion WHERE prompt_id = ANY(%(prompts)s)
GROUP BY prompt_id, text_hash HAVING count(*) > 1 OR text_hash = %(nothing)s
"""
TEXTS = """
WITH placed AS (
    SELECT ranking_id, place, text_hash
    FROM annotate_placement AS placement
    JOIN annotate_completion AS completion ON completion.id = placement.completion_id
    WHERE ranking_id = ANY(%(rankings)s))
SELECT count(*) FILTER (WHERE torn), count(*) FILTER (WHERE empty) FROM (
    SELECT bool_or(lowest < highest) AS torn, bool_or(text_hash = %(nothing)s) AS empty
    FROM (SELECT ranking_id, text_hash, min(place) AS lowest, max(place) AS highest
          FROM placed GROUP BY ranking_id, text_hash) AS same
    GROUP BY ranking_id) AS each
"""


@dataclass(frozen=True)
class Finding:
    name: str
    message: str
    is_error: bool = False


class NotReady(Exception):
    """A round cannot be launched. `findings` say why and what to do."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__(" ".join(finding.message for finding in findings))
        self.findings = findings


def check_base(base: Policy | None) -> Iterator[Finding]:
    if base is None:
        message = "There is no base policy. Add one that has a model folder."
        yield Finding("no_base", message, is_error=True)
    elif not base.folder:
        message = f"{base} has no weights of its own to train. Choose a policy with a model folder."
        yield Finding("base_without_weights", message, is_error=True)
    elif missing := _missing_of_a_model(base.folder):
        message = (
            f"The folder of {base}, {base.folder} in DATA_DIR, is not a model folder: "
            f"{missing}. Point the policy to a Hugging Face folder with safetensors."
        )
        yield Finding("base_not_a_model", message, is_error=True)


def check_speaker(policy: Policy) -> Iterator[Finding]:
    """Finds what keeps a policy from answering in a run."""
    if policy.folder or not policy.can_be_asked:
        yield from check_base(policy)


def _missing_of_a_model(name: str) -> str:
    folder = settings.DATA_DIR / name
    if not folder.is_dir():
        return "it does not exist"
    if not (folder / "config.json").is_file():
        return "config.json is missing"
    try:
        json.loads((folder / "config.json").read_text())
    except ValueError:
        return "config.json is not JSON"
    if not any(folder.glob("*.safetensors")):
        return "there are no weights (*.safetensors)"
    if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer_config.json")):
        return "the tokenizer is missing"
    return ""


@dataclass(frozen=True)
class Labels:
    """What a stage's checks look at: the labels that pass the filters, and how many there are."""

    project: Project
    filters: Filters
    counts: Mapping[str, int]
    rankings: RankingCounts


def check_rankings(labels: Labels) -> Iterator[Finding]:
    """Finds out whether there are rankings to learn from, and what is odd about them."""
    rankings = labels.rankings
    now = sum(row.split in TRAIN for row in rankings.by_others)
    learnt, others = len(rankings.learnt), len(rankings.by_others)
    yield from _check_enough_rankings(now, learnt, all_rankings=others)
    yield from check_new_guests(labels)
    yield from check_labelers(rankings)
    yield from check_contradictions(rankings)
    yield from check_twins(rankings)


def check_new_guests(labels: Labels) -> Iterator[Finding]:
    """Finds comparisons that nobody has let train yet."""
    if waiting := preferences_to_look_at(labels.project, labels.filters).count():
        message = (
            f"{waiting} comparison{'' if waiting == 1 else 's'} by new guests left out until a"
            " reviewer approves (Labelers, New guests)."
        )
        yield Finding("preferences_of_new_guests", message)


def check_twins(rankings: RankingCounts) -> Iterator[Finding]:
    """Finds people who put the same things in the same order nearly always."""
    several = {pk for pk, n in Counter(row.prompt for row in rankings.learnt).items() if n > 1}
    met = [row.pk for row in rankings.learnt if row.pk > 0 and row.prompt in several]
    for two in twins(met):
        names = [User.objects.get(pk=pk).display_name for pk in two.labelers]
        message = (
            f"{' and '.join(names)} gave the same order in {two.same} of {two.shared} rankings of"
            " the same prompts. If that is one person, exclude one of the two (Labelers)."
        )
        yield Finding("same_orders", message)


def _check_enough_rankings(count: int, decided: int, *, all_rankings: int) -> Iterator[Finding]:
    if not count and all_rankings:
        message = (
            "All rankings belong to held-out prompts, which never train. Rank completions of "
            "other prompts."
        )
        yield Finding("no_training_rankings", message, is_error=True)
    elif not count:
        message = (
            "There are no rankings yet. Sample completions (Policies), then let people rank "
            "them (Label), or import rankings."
        )
        yield Finding("no_rankings", message, is_error=True)
    elif not decided:
        message = "All rankings are ties: there is nothing to prefer. Rank more completions."
        yield Finding("only_ties", message, is_error=True)
    elif decided == 1:
        message = "There is one ranking only. A reward model cannot learn from one: rank more."
        yield Finding("one_ranking", message, is_error=True)
    elif decided < FEW_RANKINGS:
        message = f"Only {decided} rankings tell completions apart: the reward model will guess."
        yield Finding("few_rankings", message)


def check_contradictions(rankings: RankingCounts) -> Iterator[Finding]:
    """Finds rankings that repeat or contradict one by the same person, or that hold odd texts.
    People disagree with each other, and the reward model learns from that; a person who contradicts
    themselves is worth a look."""
    nothing = content_hash("")
    with connection.cursor() as cursor:
        cursor.execute(REPEATS, {"rankings": rankings.repeated})
        repeated, contradictory = cursor.fetchone()
        prompts = list({row.prompt for row in rankings.learnt})
        cursor.execute(SUSPECTS, {"prompts": prompts, "nothing": nothing})
        suspects = {prompt for (prompt,) in cursor.fetchall()}
        on_them = [row.pk for row in rankings.learnt if row.prompt in suspects]
        cursor.execute(TEXTS, {"rankings": on_them, "nothing": nothing})
        torn, empty = cursor.fetchone()
    if repeated:
        message = (
            f"{repeated} rankings repeat one by the same person word for word: each counts again. "
            "If that was an import sent twice, retract one of the two."
        )
        yield Finding("duplicate_rankings", message)
    if contradictory:
        message = (
            f"{contradictory} comparisons contradict one by the same person. Look at their work "
            "(Labelers), and exclude those who only click."
        )
        yield Finding("contradictory_comparisons", message)
    if torn:
        message = (
            f"{torn} rankings put completions of the same text in different places, so that one "
            "text is chosen and rejected at once. Have a reviewer send them back."
        )
        yield Finding("chosen_is_rejected", message)
    if empty:
        message = (
            f"{empty} rankings hold an empty completion. The reward model will learn to score"
            f" empty answers: exclude them if that is not what you want."
        )
        yield Finding("empty_ranked_completion", message)


def check_labelers(rankings: RankingCounts) -> Iterator[Finding]:
    by_labeler = rankings.labelers
    if not by_labeler:
        return
    first, count = by_labeler[0]
    name = User.objects.get(pk=first).display_name
    share = count / sum(n for _, n in by_labeler)
    advice = "The policy will learn the taste of that person: have others rank as well."
    if len(by_labeler) == 1:
        message = f"All rankings come from one person, {name}. {advice}"
        yield Finding("one_labeler", message)
    elif share > max(LABELER_SHARE, 1.5 / len(by_labeler)):
        message = f"{share:.0%} of the rankings come from one person, {name}. {advice}"
        yield Finding("dominant_labeler", message)


def check_duplicates(demonstrations: LabelQuerySet) -> Iterator[Finding]:
    same = demonstrations.order_by().values("prompt", digest=MD5("text")).annotate(n=Count("pk"))
    repeated = sum(same.filter(n__gt=1).values_list("n", flat=True)) - same.filter(n__gt=1).count()
    if repeated:
        message = (
            f"{repeated} demonstrations repeat another of the same prompt word for word: each "
            "counts again. If that was an import sent twice, retract one of the two."
        )
        yield Finding("duplicate_demonstrations", message)


def check_leaks(prompts: PromptQuerySet) -> Iterator[Finding]:
    """Finds held-out prompts that also train under another spelling: the hash that splits them sees
    every blank, the model hardly any."""
    held_out = Count("pk", filter=~Q(split=Prompt.Split.TRAIN))
    alike = prompts.order_by().values("spelling").annotate(n=Count("pk"), tests=held_out)
    leaked = alike.filter(tests__gt=0, tests__lt=F("n")).count()
    if leaked:
        message = (
            f"{leaked} held-out prompts are also used for training, apart from blanks, capitals"
            f" or punctuation. They "
            "flatter the evaluation: archive one of the two (Prompts)."
        )
        yield Finding("leaked_test_prompt", message)


def check_lengths(prompts: PromptQuerySet, *, context: int, answer: int) -> Iterator[Finding]:
    """Finds prompts too long for a context of `context` tokens, `answer` of them for the answer. A
    word is one token at least; what it is on average depends on the tokenizer, which only trainers
    load."""
    limit = max(context - answer, 0)
    asked = Cast("messages", TextField())
    size = Func(asked, function="octet_length", output_field=IntegerField())
    pattern = Value("[^[:space:]]+")
    words = Func(asked, pattern, function="regexp_count", output_field=IntegerField())
    # A text of fewer bytes than tokens allowed fits for certain, and is not looked at further.
    long = prompts.order_by().alias(size=size).filter(size__gt=limit).alias(words=words)
    found = long.aggregate(
        sure=Count("pk", filter=Q(words__gt=limit)),
        large=Count("pk", filter=Q(size__gt=limit * BYTES_A_TOKEN)),
    )
    sure, likely = found["sure"], found["large"] - found["sure"]
    advice = "Archive them (Prompts), or choose a base with a longer context."
    if sure:
        message = (
            f"{sure} prompts are longer than the model can read: {context} tokens, of which "
            f"{answer} are for the answer. The training would stop at the first. {advice}"
        )
        yield Finding("prompt_over_context", message, is_error=True)
    if likely > 0:
        message = (
            f"{likely} prompts may be longer than the model can read, {limit} tokens at about "
            f"{BYTES_A_TOKEN} bytes each. A training stops at a prompt that is. {advice}"
        )
        yield Finding("prompt_near_context", message)
