"""Published is trained: what plain classes make of a folder is compared with the trainer's numbers.

The rows are of several lengths, so that they are padded; some end with an end token and some are
cut. Weights are compared as they are published: those of a base in bf16 are rounded first, and how
much that moves the numbers is held against ROUNDING.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlhf.learning.models.networks import LMHead, PolicyNetwork, ScoreNetwork, collate
from rlhf.learning.models.render import Encoded, Renderer

from .plain import Reading, Unreadable, ask

LENGTHS = (3, 17, 9, 24, 12, 5)  # tokens
COLUMNS = 48  # ids whose logits are compared
SAME = 1e-4  # of the largest number, or of 1
ROUNDING = 0.1  # the same, for what half precision takes away


class NotAsTrained(RuntimeError):
    """A folder that others would not read as the model that was trained; it is not published."""


class Probe:
    """Rows of token ids without special meaning, half of them closed by an end token."""

    def __init__(self, rendering: Renderer, ends: Sequence[int], vocabulary: int) -> None:
        tokenizer = rendering.tokenizer
        special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
        known = sorted({*tokenizer.get_vocab().values()} - special - {*ends})
        ids = torch.tensor([each for each in known if each < vocabulary])
        draw = torch.Generator().manual_seed(0)
        lengths = [min(length, rendering.context - 1) for length in LENGTHS]
        self.rows = [
            ids[torch.randint(len(ids), (length,), generator=draw)].tolist() for length in lengths
        ]
        for number, row in enumerate(self.rows[::2]):
            row.append(list(ends)[number % len(ends)])
        chosen = ids[torch.randperm(len(ids), generator=draw)[:COLUMNS]].tolist()
        self.columns = sorted({*chosen, *ends})
        self.pad = rendering.pad
        self.encoded = [Encoded(row[:1], row[1:], True) for row in self.rows]

    @torch.no_grad()
    def of_policy(self, network: PolicyNetwork) -> list[Tensor]:
        """Logits of the columns at every token, a row each."""
        batch = collate(self.encoded, self.pad, network.lm.device)
        logits_BLC = LMHead(network.lm)(network.hidden(batch))[..., self.columns].float().cpu()
        return [logits_BLC[i, : len(row)].flatten() for i, row in enumerate(self.rows)]

    @torch.no_grad()
    def of_score(self, network: ScoreNetwork) -> list[Tensor]:
        """Scores of all heads, a row each, without the bias that is beside the folder."""
        batch = collate(self.encoded, self.pad, network.model.device)
        return list((network(batch) - network.bias).float().cpu())


@contextmanager
def rounded(model: nn.Module, stored: torch.dtype) -> Iterator[None]:
    """The weights as they are going to be stored, in the precision they learn in."""
    if stored == torch.float32:
        yield
        return
    exact = {weight: weight.data for weight in model.parameters() if weight.is_floating_point()}
    for weight, data in exact.items():
        weight.data = data.to(stored).to(data.dtype)
    try:
        yield
    finally:
        for weight, data in exact.items():
            weight.data = data


def check_same(
    name: str, mine: Sequence[Tensor], theirs: Sequence[Tensor], allowed: float = SAME
) -> None:
    """Raises NotAsTrained where two readings of the rows differ by more than `allowed`."""
    scale = max(1.0, *(float(each.abs().max()) for each in mine))
    apart = [float((one - other).abs().max()) for one, other in zip(mine, theirs, strict=True)]
    if not max(apart) <= allowed * scale:
        worst = max(range(len(apart)), key=lambda i: apart[i])
        raise NotAsTrained(
            f"{name}: others would not read it as it was trained: on probe row {worst + 1} of"
            f" {len(apart)} the numbers differ by {apart[worst]:.3g}, and {allowed * scale:.2g}"
            " is allowed. Nothing was published; the checkpoint is there"
        )


def check_reading(name: str, told: Reading, mine: Sequence[Tensor]) -> None:
    """Raises NotAsTrained where plain classes read the folder in another way, or not at all."""
    try:
        said = ask(told)
    except Unreadable as error:
        raise NotAsTrained(f"{name}: transformers cannot read it: {error}") from error
    check_same(name, mine, [torch.tensor(each) for each in said])


def is_eager(model: PreTrainedModel) -> bool:
    return bool(model.config._attn_implementation == "eager")


def reading(folder: Path, probe: Probe, model: PreTrainedModel, labels: int = 0) -> Reading:
    """How the folder is to be read: the rows, and what is asked of them."""
    columns = () if labels else probe.columns
    return Reading(folder, probe.rows, probe.pad, columns, labels, eager=is_eager(model))
