"""What one line of an imported file says, in the shapes of Hugging Face and TRL.

    prompts          {prompt}                                  a text or a list of messages
    demonstrations   {prompt, completion}  or  {messages}      the last message is the answer
    rankings         {prompt, completions: [text…], ranks: [1, 2, 2, 4]}
    preferences      {prompt, chosen, rejected, margin?}       a ranking of two
    thumbs           {prompt, completion, label: true|false}
    completions      {prompt, completions: [{model, content}], reference?}

A kind of label that corrects a completion has lines of its own: {prompt, original, completion} for
edits. All may carry `source`, `tags`, `labeler` and the
`reference` answer of the prompt, and what the export of the same kind writes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.utils import timezone

from annotate.chat.feedback import Feedback
from annotate.exchange import values
from annotate.exchange.files.bad_row import BadRow
from annotate.exchange.values import Raw
from annotate.labels.kinds import KINDS
from annotate.labels.kinds.kind import LabelKind
from annotate.labels.kinds.ranking.answer import Placement, Ranking
from annotate.prompts.models import LONGEST_PROMPT, Messages, Prompt, validate_messages
from annotate.work.letters import letter_of

MAX_COMPLETIONS = 9  # as many as a ranking page names, A to I
HASH = re.compile("[0-9a-f]{64}")
UNNAMED = "imported"  # the policy of a completion that does not say who said it


@dataclass(frozen=True, slots=True)
class Said:
    text: str
    policy: str = UNNAMED
    finish_reason: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt and what comes with it. `label` holds the fields of the label's own model."""

    prompt: Messages
    source: str | None
    tags: list[str]
    labeler: str
    is_simulated: bool
    completions: list[Said] = field(default_factory=list)
    reference: str = ""
    placements: list[Raw] = field(default_factory=list)
    shown_order: list[int] = field(default_factory=list)
    letter_order: list[int] = field(default_factory=list)
    written: Raw = field(default_factory=dict)  # of a prompt: how it came to be
    label: Raw = field(default_factory=dict)

    @property
    def placed(self) -> list[tuple[Said, Raw]]:
        """Each completion with its placement, which is empty where none was given."""
        placements = self.placements or [{} for _ in self.completions]
        return list(zip(self.completions, placements, strict=True))


UNKNOWN = (
    "Unknown format: a line needs at least a “prompt” or “messages”. If a column has another name, "
    "choose it as one (on the command line: --column NAME=prompt)."
)
A_DOCUMENT = "Texts to pre-train on are imported on the page Documents."


def kind_of(raw: Raw) -> str:
    """Returns the kind of a line in our own shape, by the names it has. Raises BadRow where they
    fit none."""
    if "ranks" in raw or raw.get("outcome") == Ranking.Outcome.ALL_BAD:
        return "rankings"
    if "chosen" in raw and "rejected" in raw:
        return "preferences"
    if "completions" in raw:
        return "completions"
    for kind in KINDS.values():
        if kind.beats and kind.beats in raw and "completion" in raw:
            return kind.words.many
    if "completion" in raw:
        return "thumbs" if "label" in raw else "demonstrations"
    if "messages" in raw:
        last = raw["messages"][-1] if isinstance(raw["messages"], list) and raw["messages"] else {}
        is_answered = isinstance(last, dict) and last.get("role") == "assistant"
        return "demonstrations" if is_answered else "prompts"
    if "prompt" in raw:
        return "prompts"
    raise BadRow(f"{UNKNOWN} {A_DOCUMENT}" if "text" in raw else UNKNOWN)


def parse(raw: Any, kind: str | None) -> tuple[str, Row]:
    """The kind of the line and what it says; if `kind` is given, the line must be of it."""
    found = kind_of(_object(raw))
    if kind and found != kind:
        why = "is the rest of it empty?" if found == "prompts" else "one kind in a file."
        raise BadRow(f"This line holds {found}, but the file is of {kind}: {why}")
    return found, PARSERS[found](raw)


def parse_prompt(raw: Any) -> Row:
    """Only the prompt of a line, whatever else it holds."""
    kind_of(_object(raw))
    messages = raw.get("messages")
    if isinstance(messages, list) and kind_of(raw) == "demonstrations":
        messages = messages[:-1]
    return _row(raw, raw.get("prompt", messages), written=_written(raw))


def _written(raw: Raw) -> Raw:
    """How a labeler came to write the prompt, what decides its split if not its content, and
    whether it is in use."""
    kind = values.choice(raw, "written", Prompt.Kind) if raw.get("written") else ""
    archived_at = timezone.now() if values.optional(raw, "archived", bool, False) else None
    return {"kind": kind, "archived_at": archived_at, **_split_key(raw)}


def _split_key(raw: Raw) -> Raw:
    key = values.text(raw.get("split_key") or "", "split_key", may_be_empty=True)
    if key and not HASH.fullmatch(key):
        raise BadRow("“split_key” must be a sha256 in hex, as the export writes it.")
    return {"split_key": key}


def _object(raw: Any) -> Raw:
    if not isinstance(raw, dict):
        raise BadRow('A line must hold one JSON object, like {"prompt": "…"}.')
    return raw


def _demonstrations(raw: Raw) -> Row:
    if "completion" in raw:
        prompt, answer = raw.get("prompt"), raw["completion"]
    else:
        prompt, answer = raw["messages"][:-1], raw["messages"][-1:]
    label = {"text": _answer(answer, "completion"), **_effort(raw)}
    return _row(raw, prompt, label=label)


def _rankings(raw: Raw) -> Row:
    texts = [_said(each, "completions") for each in values.listed(raw, "completions")]
    count = len(texts)
    if not 2 <= count <= MAX_COMPLETIONS:
        raise BadRow(f"A ranking has 2 to {MAX_COMPLETIONS} completions; this one has {count}.")
    outcome = values.choice(raw, "outcome", Ranking.Outcome, default=Ranking.Outcome.RANKED)
    places = _places(raw, count, outcome)
    ratings = values.each(raw, "ratings", count)
    flags = values.each(raw, "flags", count)
    placements = [
        {
            "place": places[i],
            "rating": ratings[i] and values.whole(ratings[i], "a rating", least=1, most=7),
            "flags": [
                values.choice({"flag": flag}, "flag", Placement.Flag) for flag in flags[i] or []
            ],
        }
        for i in range(count)
    ]
    strength = _strength(raw, "strength")
    if strength and sorted(places) != [1, 2]:
        raise BadRow("“strength” is only for two completions of which one is better. Leave it out.")
    return _row(
        raw,
        raw.get("prompt"),
        completions=_completions(raw, texts),
        placements=placements,
        shown_order=_shown_order(raw, count),
        letter_order=_letter_order(raw, count),
        label={
            "outcome": outcome,
            "strength": strength,
            "reason": values.text(raw.get("reason") or "", "reason", limit=500, may_be_empty=True),
            **_effort(raw),
        },
    )


def _preferences(raw: Raw) -> Row:
    prompt, chosen, rejected = raw.get("prompt"), raw["chosen"], raw["rejected"]
    if prompt is None:  # TRL's implicit prompt: all but the last message, the same on both sides
        both = isinstance(chosen, list) and isinstance(rejected, list)
        prompt = chosen[:-1] if both else None
        if prompt is None or prompt != rejected[:-1]:
            raise BadRow("Without a “prompt”, chosen and rejected must begin with the same one.")
        chosen, rejected = chosen[-1:], rejected[-1:]
    texts = [_said(chosen, "chosen"), _said(rejected, "rejected")]
    return _row(
        raw,
        prompt,
        completions=_completions(raw, texts),
        placements=[{"place": 1}, {"place": 2}],
        label={
            "strength": _strength(raw, "strength" if raw.get("margin") is None else "margin"),
            **_effort(raw),
        },
    )


def _thumbs(raw: Raw) -> Row:
    if not isinstance(raw["label"], bool):
        raise BadRow(f"“label” must be true or false, not {values.short(raw['label'])}.")
    reasons = values.optional(raw, "reasons", list, [])
    label = {
        "thumb_up": raw["label"],
        "reasons": [values.choice({"reason": each}, "reason", Feedback.Reason) for each in reasons],
        "note": values.text(raw.get("note") or "", "note", may_be_empty=True),
        "wanted_answer": values.text(
            raw.get("wanted_answer") or "", "wanted_answer", may_be_empty=True
        ),
    }
    texts = [_said(raw["completion"], "completion")]
    return _row(raw, raw.get("prompt"), completions=_completions(raw, texts), label=label)


def _completions_of_policies(raw: Raw) -> Row:
    completions = []
    for number, each in enumerate(values.listed(raw, "completions"), start=1):
        if not isinstance(each, dict) or "content" not in each or "model" not in each:
            raise BadRow(
                f"Completion {number} needs a “model” and a “content”; "
                "if this is a ranking, “ranks” is missing."
            )
        policy = values.text(each["model"], "model", limit=100)
        completions.append(Said(_said(each["content"], "content"), policy))
    if not completions:
        raise BadRow("“completions” is empty; a line without any belongs into a file of prompts.")
    return _row(raw, raw.get("prompt"), completions=completions)


def _corrections(kind: LabelKind) -> Callable[[Raw], Row]:
    """Reads the lines of a kind whose text is better than a completion."""

    def read(raw: Raw) -> Row:
        texts = [_said(raw[kind.beats], kind.beats)]
        label = {"text": _answer(raw["completion"], "completion"), **_effort(raw)}
        if label["text"] == texts[0]:
            raise BadRow(f"“completion” is the same text as “{kind.beats}”: nothing is corrected.")
        return _row(raw, raw.get("prompt"), completions=_completions(raw, texts), label=label)

    return read


PARSERS: dict[str, Callable[[Raw], Row]] = {
    "prompts": parse_prompt,
    "demonstrations": _demonstrations,
    "rankings": _rankings,
    "preferences": _preferences,
    "thumbs": _thumbs,
    "completions": _completions_of_policies,
    **{kind.words.many: _corrections(kind) for kind in KINDS.values() if kind.beats},
}

# What is read of each, by its name.
_ALL = frozenset(("prompt", "reference", "source", "tags", "labeler", "simulated", "split_key"))
_EFFORT = frozenset(("guideline_version", "active_seconds", "pasted_share", "comment"))
_SAID = frozenset(("policies", "finish_reasons"))
READ: dict[str, frozenset[str]] = {
    "prompts": _ALL | {"messages", "written", "archived"},
    "demonstrations": _ALL | _EFFORT | {"messages", "completion"},
    "rankings": _ALL | _EFFORT | _SAID
    | {"completions", "ranks", "outcome", "ratings", "flags", "strength"}
    | {"shown_order", "letters", "reason"},
    "preferences": _ALL | _EFFORT | _SAID | {"chosen", "rejected", "margin", "strength"},
    "thumbs": _ALL | _SAID | {"completion", "label", "reasons", "note", "wanted_answer"},
    "completions": _ALL | {"completions"},
    **{
        kind.words.many: _ALL | _EFFORT | _SAID | {kind.beats, "completion"}
        for kind in KINDS.values()
        if kind.beats
    },
}  # fmt: skip


def _row(raw: Raw, prompt: Any, **parts: Any) -> Row:
    source = raw.get("source")
    return Row(
        prompt=_messages(prompt),
        source=None
        if source is None
        else values.text(source, "source", limit=100, may_be_empty=True),
        tags=[values.text(tag, "tags", limit=50) for tag in values.optional(raw, "tags", list, [])],
        labeler=values.text(raw.get("labeler") or "", "labeler", limit=90, may_be_empty=True),
        is_simulated=values.optional(raw, "simulated", bool, False),
        reference=_reference(raw.get("reference")),
        **({"written": _split_key(raw)} if raw.get("split_key") else {}) | parts,
    )


def _reference(value: Any) -> str:
    """The right answer to the prompt: a text, one message of the assistant, or a number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    return "" if value is None else _said(value, "reference").strip()


def _messages(value: Any) -> Messages:
    messages = [{"role": "user", "content": value}] if isinstance(value, str) else value
    try:
        validate_messages(messages)
    except ValidationError as error:
        raise BadRow(error.messages[0]) from error
    for message in messages:
        values.text(message["content"], "prompt", limit=None)
    size = sum(len(message["content"]) for message in messages)
    if size > LONGEST_PROMPT:
        raise BadRow(
            f"The prompt has {size:,} characters, and at most {LONGEST_PROMPT:,} fit. "
            "Shorten it, or leave the line out."
        )
    return messages


def _said(value: Any, name: str) -> str:
    """What a policy said: a text, or one message of the assistant. It may have said nothing."""
    messages = value if isinstance(value, list) else [value]
    if len(messages) == 1 and isinstance(messages[0], dict):
        if messages[0].get("role") != "assistant":
            raise BadRow(f"“{name}” must be the assistant's message.")
        value = messages[0].get("content")
    return values.text(value, name, may_be_empty=True)


def _answer(value: Any, name: str) -> str:
    """What a person would have said: never nothing."""
    return values.text(_said(value, name), name)


def _completions(raw: Raw, texts: list[str]) -> list[Said]:
    policies = values.each(raw, "policies", len(texts))
    reasons = values.each(raw, "finish_reasons", len(texts))
    completions = [
        Said(
            text,
            values.text(policy or UNNAMED, "policies", limit=100),
            values.text(reason or "", "finish_reasons", limit=20, may_be_empty=True),
        )
        for text, policy, reason in zip(texts, policies, reasons, strict=True)
    ]
    seen: dict[str, int] = {}
    for number, said in enumerate(completions, start=1):
        if (twin := seen.setdefault(said.text.strip(), number)) != number:
            raise BadRow(f"Completions {twin} and {number} are the same text: keep one of them.")
    return completions


def _places(raw: Raw, count: int, outcome: str) -> list[int]:
    """The ranks made dense: 1, 2, 2, 4 → 1, 2, 2, 3. Where all are bad, ranks may miss."""
    ranks = values.each(raw, "ranks", count)
    if None in ranks and outcome == Ranking.Outcome.RANKED:
        raise BadRow("“ranks” misses a completion: every completion needs its rank.")
    tiers = sorted({values.whole(rank, "a rank", least=0) for rank in ranks if rank is not None})
    return [len(tiers) + 1 if rank is None else tiers.index(rank) + 1 for rank in ranks]


def _shown_order(raw: Raw, count: int) -> list[int]:
    order = values.optional(raw, "shown_order", list, [])
    if order and (not all(type(i) is int for i in order) or sorted(order) != list(range(count))):
        raise BadRow(f"“shown_order” must name each position from 0 to {count - 1} once.")
    return order


def _letter_order(raw: Raw, count: int) -> list[int]:
    """The positions in the order of their letters, which are what the reason calls them by. Files
    that name no letters are of a time in which these followed the order shown."""
    letters = values.optional(raw, "letters", list, [])
    if not letters:
        return _shown_order(raw, count)
    wanted = [letter_of(position) for position in range(count)]
    if not all(type(each) is str for each in letters) or sorted(letters) != wanted:
        raise BadRow(f"“letters” must have each of {', '.join(wanted)} once.")
    return sorted(range(count), key=lambda position: str(letters[position]))


def _effort(raw: Raw) -> Raw:
    """What every label carries about how it came to be."""
    share = values.optional(raw, "pasted_share", (int, float), 0.0)
    if not 0 <= share <= 1:
        raise BadRow(f"“pasted_share” must be between 0 and 1, not {values.short(share)}.")
    version = raw.get("guideline_version")
    return {
        "guideline_version": version and values.whole(version, "guideline_version", least=1),
        "active_seconds": values.whole(raw.get("active_seconds") or 0, "active_seconds", least=0),
        "pasted_share": share,
        "comment": values.text(raw.get("comment") or "", "comment", may_be_empty=True),
    }


def _strength(raw: Raw, name: str) -> int | None:
    value = raw.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or value not in (1, 2, 3, 4):
        raise BadRow(
            f"“{name}” must be 1 (negligibly better), 2, 3 or 4 (significantly better), "
            f"not {values.short(value)}. Leave it out if the data has another scale."
        )
    return int(value)
