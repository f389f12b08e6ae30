"""Texts → vectors of a loaded policy: the mean of its last hidden states over the tokens of a text.
A language model was not trained to tell meanings apart that way; it does so better than chance, and
needs no second model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .shelf import Policy
from .wishes import Refused

MOST_TEXTS = 128


def texts_of(asked: Any) -> tuple[str, list[str]]:
    """The model and the texts of a request. Raises Refused."""
    asked = asked if isinstance(asked, dict) else {}
    model, texts = asked.get("model"), asked.get("input")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(model, str):
        raise Refused(400, "`model` must be a text.", param="model")
    if not (isinstance(texts, list) and texts and all(isinstance(each, str) for each in texts)):
        raise Refused(400, "`input` must be a text, or a list of texts.", param="input")
    if len(texts) > MOST_TEXTS or not all(each.strip() for each in texts):
        raise Refused(
            400, f"`input` must be 1 to {MOST_TEXTS} texts, none of them empty.", param="input"
        )
    return model, texts


@torch.inference_mode()
def vectors_of(policy: Policy, texts: Sequence[str]) -> tuple[list[list[float]], int]:
    """A vector of each text, in length 1, and how many tokens were read. Of a text longer than the
    model's context its beginning is read."""
    model: Any = policy.lm.base_model
    device = next(policy.lm.parameters()).device
    vectors, read = [], 0
    for text in texts:
        ids = policy.render.tokenizer.encode(text, add_special_tokens=False)
        ids = ids[: policy.render.context]
        ids_1L = torch.tensor([ids], device=device)
        hidden_LH = model(input_ids=ids_1L, use_cache=False).last_hidden_state[0].float()
        mean_H = torch.nn.functional.normalize(hidden_LH.mean(0), dim=0)
        vectors.append(mean_H.tolist())
        read += len(ids)
    return vectors, read
