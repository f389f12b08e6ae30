"""What is remembered of rows that come and go: each has its own length, and joins or leaves between
two steps.

`Slots` decodes all rows of a Llama or Qwen2 in one batch, with the sums of `decoding.Layer`;
`OneByOne` decodes any other model through transformers, one row after another.
B rows, S columns, H hidden units, G key heads, D units of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from rlhf.learning.generation.decoding import Decoder, Layer, decoder, is_like_llama

BLOCK = 64  # columns; a memory grows by so many


class Slots:
    """Keys and values of all rows of a model, each row from the left of its slot."""

    def __init__(self, lm: PreTrainedModel, most_rows: int) -> None:
        self.lm = lm
        model: Any = lm.base_model
        self.layers = [Layer(each, most_rows) for each in model.layers]
        first = self.layers[0]
        units = 2 * len(self.layers) * first.key_heads * first.size
        self.column_bytes: int = units * lm.dtype.itemsize
        self.lengths: list[int] = []  # tokens in each row
        self.rooms: list[int] = []  # tokens that each row may come to have
        self.slots = self.columns = 0
        self.keys: list[Tensor] = [torch.empty(0)] * len(self.layers)
        self.values = list(self.keys)
        self.cos_SD = self.sin_SD = torch.empty(0)  # rotations of every column

    @property
    def bytes(self) -> int:
        """Held for keys and values."""
        return self.slots * self.columns * self.column_bytes

    def bytes_with(self, rooms: Sequence[int]) -> int:
        """The same, once rows of so many tokens each have joined."""
        slots, columns = self._size_with(rooms)
        return slots * columns * self.column_bytes

    def read(self, ids: Sequence[int], room: int) -> Reading:
        """Begins to read a prompt that shall join with `room` tokens, its own included."""
        return Reading(self.lm, ids, room)

    def join(self, reading: Reading) -> None:
        """Takes a prompt that has been read in as the last row."""
        row, length = len(self.lengths), len(reading.ids)
        self._resize(*self._size_with([reading.room]))
        for number, layer in enumerate(reading.cache.layers):
            self.keys[number][row, :, :length] = layer.keys[0]
            self.values[number][row, :, :length] = layer.values[0]
        self.lengths.append(length)
        self.rooms.append(reading.room)

    def leave(self, row: int) -> None:
        """Forgets a row; the last one takes its number."""
        last = len(self.lengths) - 1
        for memory in (*self.keys, *self.values) if row < last else ():
            memory[row, :, : self.lengths[last]] = memory[last, :, : self.lengths[last]]
        self.lengths[row], self.rooms[row] = self.lengths[last], self.rooms[last]
        self.lengths.pop()
        self.rooms.pop()
        if self.lengths:
            self._resize(*self._size_with([]))
        else:
            self._clear()

    def advance(self, ids: Sequence[int]) -> Tensor:
        """hidden_BH after one token more for every row."""
        model: Any = self.lm.base_model
        device = self.lm.device
        self.rows_B = torch.arange(len(ids), device=device)
        self.places_B = torch.tensor(self.lengths, device=device)
        self.seen = max(self.lengths) + 1
        x_BH = model.embed_tokens(torch.tensor(ids, device=device))
        cos_B1D, sin_B1D = self.cos_SD[self.places_B, None], self.sin_SD[self.places_B, None]
        unseen_BS = torch.arange(self.seen, device=device) > self.places_B[:, None]
        bias_BS = x_BH.new_zeros(unseen_BS.shape).masked_fill(unseen_BS, -torch.inf)
        bias_G1S = bias_BS.repeat_interleave(self.layers[0].key_heads, 0)[:, None]
        for number, layer in enumerate(self.layers):
            x_BH = layer.after(x_BH, partial(self._with_more, number), cos_B1D, sin_B1D, bias_G1S)
        self.lengths = [length + 1 for length in self.lengths]
        hidden_BH: Tensor = model.norm(x_BH)
        return hidden_BH

    def _with_more(
        self, number: int, keys_BGD: Tensor, values_BGD: Tensor
    ) -> tuple[Tensor, Tensor]:
        count, seen = len(keys_BGD), self.seen
        self.keys[number][self.rows_B, :, self.places_B] = keys_BGD
        self.values[number][self.rows_B, :, self.places_B] = values_BGD
        return (
            self.keys[number][:count].flatten(0, 1)[:, :seen],
            self.values[number][:count].flatten(0, 1)[:, :seen],
        )

    def _size_with(self, rooms: Sequence[int]) -> tuple[int, int]:
        """(slots, columns). Slots are doubled, so that few joins copy what there is; what is twice
        too large is made smaller."""
        count = len(self.rooms) + len(rooms)
        slots = 1 << (count - 1).bit_length()
        columns = -(-max([*self.rooms, *rooms]) // BLOCK) * BLOCK
        if 2 * slots * columns <= self.slots * self.columns:
            return slots, columns
        return max(slots, self.slots), max(columns, self.columns)

    def _resize(self, slots: int, columns: int) -> None:
        if (slots, columns) == (self.slots, self.columns):
            return
        model: Any = self.lm.base_model
        heads, size = self.layers[0].key_heads, self.layers[0].size
        count, seen = len(self.lengths), max(self.lengths, default=0)
        empty = torch.empty(0, dtype=self.lm.dtype, device=self.lm.device)
        for memories in (self.keys, self.values):
            for number in range(len(self.layers)):
                made = empty.new_zeros(slots, heads, columns, size)
                if count:
                    made[:count, :, :seen] = memories[number][:count, :, :seen]
                memories[number] = made
        places = torch.arange(columns, device=self.lm.device)
        cos_1SD, sin_1SD = model.rotary_emb(empty, places[None])
        self.cos_SD, self.sin_SD = cos_1SD[0], sin_1SD[0]
        self.slots, self.columns = slots, columns

    def _clear(self) -> None:
        self.slots = self.columns = 0
        self.keys = [torch.empty(0)] * len(self.layers)
        self.values = list(self.keys)


class Reading:
    """A prompt on its way into `Slots`, read in pieces so that others need not wait for it."""

    def __init__(self, lm: PreTrainedModel, ids: Sequence[int], room: int) -> None:
        self.lm, self.ids, self.room = lm, ids, room
        self.cache: Any = DynamicCache(config=lm.config)
        self.place = 0

    def go_on(self, tokens: int) -> Tensor | None:
        """Reads so many tokens more; hidden_1H after the last one of the prompt."""
        piece = self.ids[self.place : self.place + tokens]
        places = torch.arange(self.place, self.place + len(piece), device=self.lm.device)
        out = self.lm.base_model(
            input_ids=torch.tensor([piece], device=self.lm.device),
            position_ids=places[None],
            past_key_values=self.cache,
            use_cache=True,
        )
        self.place += len(piece)
        hidden_1H: Tensor = out.last_hidden_state[:, -1]
        return hidden_1H if self.place == len(self.ids) else None


class OneByOne:
    """A decoder of its own for every row; how much they remember is not known beforehand."""

    bytes = 0

    def __init__(self, lm: PreTrainedModel) -> None:
        self.lm = lm
        self.decoders: list[Decoder] = []

    def bytes_with(self, rooms: Sequence[int]) -> int:
        return 0

    def read(self, ids: Sequence[int], room: int) -> ReadingWhole:
        return ReadingWhole(self.lm, ids, room)

    def join(self, reading: ReadingWhole) -> None:
        self.decoders.append(reading.decoder)

    def leave(self, row: int) -> None:
        self.decoders[row] = self.decoders[-1]
        self.decoders.pop()

    def advance(self, ids: Sequence[int]) -> Tensor:
        """hidden_BH after one token more for every row."""
        device = self.lm.device
        return torch.cat(
            [
                each.advance(torch.tensor([token], device=device))
                for each, token in zip(self.decoders, ids, strict=True)
            ]
        )


class ReadingWhole:
    """A prompt on its way into `OneByOne`; it is read at once."""

    def __init__(self, lm: PreTrainedModel, ids: Sequence[int], room: int) -> None:
        self.ids, self.room, self.place = ids, room, 0
        self.decoder = decoder(lm, room)

    def go_on(self, tokens: int) -> Tensor | None:
        """hidden_1H after the last token of the prompt."""
        self.place = len(self.ids)
        ids_1P = torch.tensor([self.ids], device=self.decoder.lm.device)
        return self.decoder.begin(ids_1P, torch.ones_like(ids_1P))


def memory_for(lm: PreTrainedModel, most_rows: int) -> Slots | OneByOne:
    """What remembers the rows of this model."""
    return Slots(lm, most_rows) if is_like_llama(lm) else OneByOne(lm)
