"""Messages -> token ids. The only user of the chat template.

What is learnt of an answer is what the model's own template writes for it in the whole
conversation: found by rendering with and without the answer, which must agree up to the opening of
the assistant's turn. Prompt and completion are encoded apart, because that is how a policy meets
them: token boundaries in training are those of generation.

What people write is text. Where it spells a control token, `<|im_end|>` say, the tokens learnt are
those of its letters, as in transformers' `split_special_tokens`; the template's own stay what they
are. Text that spells none is encoded with the template around it as one string, as servers do.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Template, TemplateError
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import _compile_jinja_template

from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.contract.records import DataError, Message, Prompt


@dataclass(frozen=True)
class Encoded:
    """Token ids of a prompt and of one completion; `finished`: its turn is ended in them."""

    prompt: list[int]
    completion: list[int]
    finished: bool

    @property
    def ids(self) -> list[int]:
        return self.prompt + self.completion

    @property
    def targets(self) -> int:
        """How many of its tokens are predicted."""
        return len(self.completion)


@dataclass(frozen=True)
class Packed:
    """Several texts in one row; none sees another, and none is asked for its first token."""

    texts: list[list[int]]

    @property
    def ids(self) -> list[int]:
        return [token for text in self.texts for token in text]

    @property
    def targets(self) -> int:
        return sum(len(text) - 1 for text in self.texts)


def cut_share(rows: Sequence[Encoded], room: int) -> float:
    """How many of the completions lost their end for being over `room` tokens."""
    return sum(not row.finished and len(row.completion) >= room for row in rows) / len(rows)


class TemplateRefusal(DataError):
    """The chat template does not take these messages: a role, or their order."""


USER: Message = {"role": "user", "content": "Why is the sky blue?"}
ANSWER = "Because of the air."
SYSTEM: Message = {"role": "system", "content": "Answer in one short sentence."}
# Conversations that a template is tried on, each with an answer to its last message.
PROBES: tuple[tuple[tuple[Message, ...], str], ...] = (
    ((USER,), ANSWER),
    ((USER,), "Two lines.\n\n- and a list 🙂"),
    (({"role": "user", "content": "  Blanks around?\n"},), " Yes. "),
    ((USER, {"role": "assistant", "content": ANSWER}, {"role": "user", "content": "So?"}), "Yes."),
)


@dataclass(frozen=True)
class Turn:
    """How a template writes the assistant's turn around an answer's text.

    `anchor`: the end of the opening, as far back as tokens could depend on it. `lead`: between the
    opening and the text, such as an empty thinking block. `tail`: all that follows the text, of
    which `closing` is learnt; it ends with the text of the end-of-turn token `end`."""

    anchor: str
    lead: str
    tail: str
    closing: str
    end: int
    takes_system: bool


class Renderer:
    """The tokenizer and the chat template of a model folder.

    `day`, as YYYY-MM-DD, is what a template that reads the clock is told; "" is today."""

    def __init__(self, folder: Path, context: int, day: str = "") -> None:
        # Left for the reader of the folder's file; every batch here is padded by hand.
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False
        )
        self.name, self.context = folder.name, context
        self.eos: int = self.tokenizer.eos_token_id
        pad = self.tokenizer.pad_token_id
        self.pad: int = self.eos if pad is None else pad
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        self.backend: Tokenizer | None = None
        if backend is not None:
            # A folder may tell its tokenizer to cut or to pad, which is done here.
            self.backend = Tokenizer.from_str(backend.to_str())
            self.backend.no_truncation()
            self.backend.no_padding()
        self.day = day
        self._nonce = secrets.token_hex(8)  # whoever cannot guess it cannot write a control token
        self._last: tuple[Sequence[Message], str, list[int]] | None = None

    def check(self) -> None:
        """Raises ConfigError where the model cannot hold a chat, or not one that can be learnt."""
        if not self.tokenizer.chat_template or self.tokenizer.eos_token_id is None:
            raise ConfigError(f"{self.name}: the tokenizer has no chat template or no end token")
        _ = self.turn

    # What people write and what the template writes.

    def prompt(self, prompt: Prompt, room: int) -> list[int]:
        """Ids of a prompt that leaves `room` tokens for the answer.

        A prompt is never cut: a policy that answers half a question learns the wrong thing.
        Raises DataError, which names the prompt, where it is too long or the template refuses."""
        ids = self._opened(prompt)[1]
        if len(ids) + room > self.context:
            raise DataError(
                f"prompt {prompt.id} has {len(ids)} tokens; with {room} for the answer that is over"
                f" the model's context of {self.context}"
            )
        return list(ids)

    def messages(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a conversation, with the opening of the assistant's turn."""
        return self._encode(self._write(self._fold(messages), opens=True))

    def completion(
        self, prompt: Prompt, text: str, room: int, finished: bool = True
    ) -> tuple[list[int], bool]:
        """Ids of an answer, cut to `room`; a cut answer has no end of turn, as one cut in sampling.

        They are those the template writes for this answer to this prompt."""
        opened, turn = self._opened(prompt)[0], self.turn
        messages = [*self._fold(prompt.messages), {"role": "assistant", "content": text}]
        whole = self._named(prompt, messages, opens=False)
        if not (whole.startswith(opened) and whole.endswith(turn.tail)):
            raise TemplateRefusal(
                f"prompt {prompt.id}: the chat template writes the answer in a way that sampling"
                f" cannot meet:\n{_side_by_side(opened, whole)}"
            )
        body = whole[len(opened) : len(whole) - len(turn.tail)]
        ids = self._following(body + turn.closing * finished)
        if finished and (not ids or ids[-1] != turn.end):
            ids = [*ids, turn.end]
        return ids[:room], finished and len(ids) <= room

    def document(self, text: str) -> list[int]:
        """Ids of raw text, begun as the tokenizer begins one and closed by the end token."""
        return [*self.opening(text), self.eos]

    def opening(self, text: str) -> list[int]:
        """Ids of raw text that a model is to go on with."""
        return [*self._begin, *self._encode(self._mask(text))]

    def encode(self, prompt: Prompt, text: str, room: int, finished: bool = True) -> Encoded:
        """A prompt with an answer, which is cut to `room` tokens."""
        completion, finished = self.completion(prompt, text, room, finished)
        return Encoded(self.prompt(prompt, len(completion)), completion, finished)

    def text(self, ids: Sequence[int]) -> str:
        """What an answer says, without what the template writes around it."""
        if not self.tokenizer.chat_template:
            return self.visible(ids)
        lead, closing = self.around
        said = self.visible(ids).removeprefix(lead)
        return said.removesuffix(closing) if ids and ids[-1] == self.turn.end else said

    def visible(self, ids: Sequence[int]) -> str:
        """What the ids say, control tokens left out."""
        said = [token for token in ids if token not in self.controls]
        decoded = self.tokenizer.decode(said, skip_special_tokens=True)
        assert isinstance(decoded, str)
        return decoded

    # What is found out of a model's template, once.

    @cached_property
    def turn(self) -> Turn:
        """Raises ConfigError, with the two renderings, where what the template writes for an
        answer does not go on from what it writes before one."""
        opened, whole = self._two(PROBES[0][0], ANSWER)
        start = whole.rfind(ANSWER)
        if not whole.startswith(opened) or start < len(opened):
            raise self._mismatch(opened, whole)
        lead, tail = whole[len(opened) : start], whole[start + len(ANSWER) :]
        closing, end = self._closing(tail)
        for messages, answer in PROBES[1:]:
            try:
                before, after = self._two(messages, answer)
            except TemplateRefusal:  # rows in that shape are refused by their name
                continue
            if not (after.startswith(before + lead) and after.endswith(tail)):
                raise self._mismatch(before, after)
        asked = opened.rfind(USER["content"])
        opening = opened[asked + len(USER["content"]) :] if asked >= 0 else ""
        # A control token lets nothing before it count.
        last = max((each.start() for each in self._controls_in.finditer(opening)), default=0)
        return Turn(opening[last:], lead, tail, closing, end, self._takes_system(lead, tail))

    @cached_property
    def ends(self) -> frozenset[int]:
        """Ids that end an answer: the tokenizer's own end and, where there is a template that can
        be learnt, its end of turn."""
        if not self.tokenizer.chat_template:
            return frozenset([self.eos])
        try:
            return frozenset([self.eos, self.turn.end])
        except ConfigError:
            return frozenset([self.eos])

    @cached_property
    def controls(self) -> frozenset[int]:
        """Ids of the tokens that only a template may write: the special ones, and those that it
        sets around a turn. Added tokens for blanks or for thinking are text like any other."""
        added = self.tokenizer.added_tokens_decoder
        special = {number for number, token in added.items() if token.special}
        around: set[int] = set()
        if self.tokenizer.chat_template:
            alone = self._render([USER], opens=False)
            whole = self._render([USER, {"role": "assistant", "content": ANSWER}], opens=False)
            _, _, tail = whole.rpartition(ANSWER)
            written = {token for text in (alone, tail) for token in self._plain(text)}
            around = {
                each for each in written & added.keys() if added[each].content.strip(" \n\t▁")
            }
        return frozenset((special | around | {self.eos}) - {None})

    @cached_property
    def reads_the_clock(self) -> bool:
        """Does what the template writes depend on the day?"""
        return "strftime_now" in str(self.tokenizer.chat_template)

    @cached_property
    def _dated(self) -> Template:
        """The template as transformers compiles it, with a clock that stands still."""
        text = self.tokenizer.get_chat_template()
        told = date.fromisoformat(self.day)
        environment = _compile_jinja_template(text).environment
        known = {**self.tokenizer.special_tokens_map, "strftime_now": told.strftime}
        template: Template = environment.from_string(text, globals={**environment.globals, **known})
        return template

    @cached_property
    def _texts(self) -> dict[str, int]:
        """Text of each control token -> its id."""
        added = self.tokenizer.added_tokens_decoder
        texts: dict[str, int] = {}
        for each in self.controls:
            plain = str(self.tokenizer.convert_ids_to_tokens(each))
            texts[added[each].content if each in added else plain] = each
        return texts

    @cached_property
    def _controls_in(self) -> re.Pattern[str]:
        longest_first = sorted(self._texts, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    @cached_property
    def _begin(self) -> list[int]:
        """What the tokenizer itself puts before a text."""
        plain = self._plain("a")
        whole: list[int] = self.tokenizer("a", truncation=False)["input_ids"]
        at = next((i for i in range(len(whole)) if whole[i : i + len(plain)] == plain), 0)
        return whole[:at]

    @cached_property
    def around(self) -> tuple[str, str]:
        """What a reader would see before and after an answer's text; nothing where the template's
        answers cannot be learnt."""
        try:
            turn = self.turn
        except ConfigError:
            return "", ""
        return self.visible(self._plain(turn.lead)), self.visible(self._plain(turn.closing))

    def _takes_system(self, lead: str, tail: str) -> bool:
        """Does it write a system message, and the same with an answer as without?"""
        try:
            opened, whole = self._two((SYSTEM, USER), ANSWER)
        except TemplateRefusal:
            return False
        return (
            SYSTEM["content"] in opened and whole.startswith(opened + lead) and whole.endswith(tail)
        )

    def _closing(self, tail: str) -> tuple[str, int]:
        """(what of `tail` is learnt, the id that ends a turn): up to the first control token, or
        the tokenizer's own end where the template writes none."""
        if found := self._controls_in.search(tail):
            return tail[: found.end()], self._texts[found.group()]
        return tail.rstrip() if tail.strip() else "", self.eos

    def _mismatch(self, opened: str, whole: str) -> ConfigError:
        return ConfigError(
            f"{self.name}: what its chat template writes for a conversation with an answer does not"
            " go on from what it writes before one, so a policy would be taught what sampling never"
            f" meets. Change the template.\n{_side_by_side(opened, whole)}"
        )

    # Rendering.

    def _two(self, messages: Sequence[Message], answer: str) -> tuple[str, str]:
        """A conversation without and with its answer, as it is."""
        answered = [*messages, {"role": "assistant", "content": answer}]
        return self._write(messages, opens=True), self._write(answered, opens=False)

    def _opened(self, prompt: Prompt) -> tuple[str, list[int]]:
        """A prompt's text and ids; the answers to one come together, so the last is kept."""
        if self._last is None or self._last[0] is not prompt.messages:
            text = self._named(prompt, self._fold(prompt.messages), opens=True)
            self._last = (prompt.messages, text, self._encode(text))
        return self._last[1], self._last[2]

    def folds(self, messages: Sequence[Message]) -> bool:
        """Does a system message have to go into another, as the template knows none?"""
        try:
            return messages[0]["role"] == "system" and not self.turn.takes_system
        except ConfigError:  # it can be asked, if not learnt: let it say itself
            return False

    def _fold(self, messages: Sequence[Message]) -> list[Message]:
        """Messages as the template takes them: where it knows no system, what that says comes
        first in the first message of the user."""
        if not self.folds(messages):
            return list(messages)
        system, *others = messages
        first = next((i for i, each in enumerate(others) if each["role"] == "user"), None)
        if first is None:
            return list(messages)
        content = f"{system['content']}\n\n{others[first]['content']}"
        return [*others[:first], {**others[first], "content": content}, *others[first + 1 :]]

    def _named(self, prompt: Prompt, messages: Sequence[Message], *, opens: bool) -> str:
        try:
            return self._write(messages, opens=opens)
        except TemplateRefusal as refusal:
            raise TemplateRefusal(f"prompt {prompt.id}: {refusal}") from refusal

    def _write(self, messages: Sequence[Message], *, opens: bool) -> str:
        """A conversation's text; a control token that people spelt in it is masked."""
        masked = [{name: self._mask(text) for name, text in each.items()} for each in messages]
        return self._render(masked, opens=opens)

    def _render(self, messages: Sequence[Message], *, opens: bool) -> str:
        try:
            if self.day and self.reads_the_clock:
                text = self._dated.render(messages=list(messages), add_generation_prompt=opens)
            else:
                rendered = self.tokenizer.apply_chat_template(
                    list(messages), tokenize=False, add_generation_prompt=opens
                )
                assert isinstance(rendered, str)
                text = rendered
        except (TemplateError, TypeError, ValueError, KeyError, IndexError) as error:
            roles = ", ".join(each["role"] for each in messages)
            raise TemplateRefusal(
                f"the model's chat template refuses the messages ({roles}): {error}"
            ) from error
        assert isinstance(text, str)
        return text

    # Encoding.

    def _mask(self, text: str) -> str:
        """A text with a mark that a template does not know in the place of each control token."""
        return self._controls_in.sub(
            lambda found: f"\ufdd0{self._nonce}{self._texts[found.group()]}\ufdd0", text
        )

    def _encode(self, text: str) -> list[int]:
        """Ids of a text in which what people spelt is masked."""
        if self._nonce not in text and not self._normalises_controls:
            return self._plain(text)
        by_id = {number: each for each, number in self._texts.items()}
        text = self._controls_in.sub(lambda found: self._alias(self._texts[found.group()]), text)
        text = re.sub(
            f"\ufdd0{self._nonce}(\\d+)\ufdd0", lambda found: by_id[int(found.group(1))], text
        )
        return _ids(self._split, text)

    def _plain(self, text: str) -> list[int]:
        """Ids of a text in which every control token counts."""
        if self.backend is None:
            ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            return ids
        return _ids(self.backend, text)

    def _following(self, text: str) -> list[int]:
        """Ids of a text that follows the opening of the assistant's turn."""
        anchor, whole = self._anchor_ids, self._encode(self.turn.anchor + text)
        if whole[: len(anchor)] == anchor:
            return whole[len(anchor) :]
        return self._encode(text)  # it would merge with the opening, which is sampled from alone

    @cached_property
    def _anchor_ids(self) -> list[int]:
        return self._plain(self.turn.anchor)

    @cached_property
    def _normalises_controls(self) -> bool:
        """Are control tokens found in normalised text, where other letters may spell them?"""
        if self.backend is None or self.backend.normalizer is None:
            return False
        added = self.tokenizer.added_tokens_decoder
        return any(added[each].normalized for each in self.controls & added.keys())

    def _alias(self, token: int) -> str:
        return f"\ufdd1{self._nonce}{token}\ufdd1"

    @cached_property
    def _split(self) -> Tokenizer:
        """The tokenizer with every control token under another name, which nobody can guess: their
        own names are text to it, split and merged as text is."""
        if self.backend is None:
            raise DataError(
                f"{self.name}: a text spells a control token, which this tokenizer cannot take"
                " apart: it has no tokenizer.json"
            )
        raw = json.loads(self.backend.to_str())
        names = {text: self._alias(number) for text, number in self._texts.items()}
        for token in raw["added_tokens"]:
            token["content"] = names.get(token["content"], token["content"])
        _rename(raw["model"], names)
        split: Tokenizer = Tokenizer.from_str(json.dumps(raw))
        wrong = [each for each, n in self._texts.items() if split.token_to_id(names[each]) != n]
        if wrong:
            raise ConfigError(f"{self.name}: the tokenizer cannot take {', '.join(wrong)} apart")
        return split


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a text, without its offsets, which take as long again."""
    [encoding] = tokenizer.encode_batch_fast([text], add_special_tokens=False)
    return list(encoding.ids)


def _rename(model: dict[str, Any], names: dict[str, str]) -> None:
    """Gives tokens of a model of `tokenizers` other names, which no merge makes."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):  # Unigram: (token, its log-probability)
        model["vocab"] = [[names.get(token, token), score] for token, score in vocabulary]
        return
    model["vocab"] = {names.get(token, token): number for token, number in vocabulary.items()}
    if "merges" in model:
        pairs = [each.split(" ") if isinstance(each, str) else each for each in model["merges"]]
        model["merges"] = [pair for pair in pairs if not names.keys() & {*pair, "".join(pair)}]


def _side_by_side(opened: str, whole: str) -> str:
    return f"without the answer: {opened!r}\nwith the answer:    {whole!r}"
