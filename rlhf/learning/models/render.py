"""Messages -> token ids. The only user of the chat template.

A conversation is encoded in two parts, the prompt (with the template's opening of the assistant's
turn) and the completion (its text and the end-of-turn token), because that is how a policy meets
them: token boundaries in training are those of generation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rlhf.learning.contract.records import DataError, Message, Prompt


@dataclass(frozen=True)
class Encoded:
    """Token ids of a prompt and of one completion; `finished`: the completion ends with EOS."""

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


class Renderer:
    def __init__(self, folder: Path, context: int) -> None:
        # Left for the reader of the folder's file; every batch here is padded by hand.
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False
        )
        self.context = context
        self.eos: int = self.tokenizer.eos_token_id
        pad = self.tokenizer.pad_token_id
        self.pad: int = self.eos if pad is None else pad

    def prompt(self, prompt: Prompt, room: int) -> list[int]:
        """Ids of a prompt that leaves `room` tokens for the answer.

        A prompt is never cut: a policy that answers half a question learns the wrong thing.
        """
        ids = self.messages(prompt.messages)
        if len(ids) + room > self.context:
            raise DataError(
                f"prompt {prompt.id} has {len(ids)} tokens; with {room} for the answer that is over"
                f" the model's context of {self.context}"
            )
        return ids

    def messages(self, messages: Sequence[Message]) -> list[int]:
        text = self.tokenizer.apply_chat_template(
            [dict(message) for message in messages], tokenize=False, add_generation_prompt=True
        )
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def completion(self, text: str, room: int, finished: bool = True) -> tuple[list[int], bool]:
        """Ids of an answer, cut to `room`; a cut answer has no EOS, as one cut in sampling."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if finished:
            ids = [*ids, self.eos]
        return ids[:room], finished and len(ids) <= room

    def document(self, text: str) -> list[int]:
        """Ids of raw text, closed by the end token."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*ids, self.eos]

    def encode(self, prompt: Prompt, text: str, room: int, finished: bool = True) -> Encoded:
        completion, finished = self.completion(text, room, finished)
        return Encoded(self.prompt(prompt, len(completion)), completion, finished)

    def text(self, ids: Sequence[int]) -> str:
        decoded = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        assert isinstance(decoded, str)
        return decoded
