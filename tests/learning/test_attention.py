"""Attention over short rows says what torch's own says, and learns alike."""

from __future__ import annotations

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from rlhf.learning.models import attention
from rlhf.learning.models.folders import renderer
from rlhf.learning.models.networks import Batch
from rlhf.learning.publishing.writing import publish_policy


class Module(torch.nn.Module):
    is_causal = True

    def __init__(self, heads, groups):
        super().__init__()
        self.num_key_value_groups = heads // groups


def tensors(count, heads, groups, length, size=16):
    generator = torch.Generator().manual_seed(length)
    shapes = ((count, heads, length, size), *[(count, groups, length, size)] * 2)
    return [torch.randn(*shape, generator=generator).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("scaling", [None, 0.3])
@pytest.mark.parametrize(
    ("count", "heads", "groups", "length"),
    [(1, 1, 1, 2), (3, 4, 4, 7), (2, 6, 2, 33), (2, 3, 1, attention.LONGEST)],
)
def test_it_agrees_with_torch_forwards_and_backwards(
    count, heads, groups, length, scaling, monkeypatch
):
    asked = tensors(count, heads, groups, length)
    expected, _ = sdpa_attention_forward(Module(heads, groups), *asked, None, scaling=scaling)
    torch.manual_seed(1)
    gradient = torch.randn_like(expected)
    expected_gradients = torch.autograd.grad(expected, asked, gradient)
    monkeypatch.setattr(attention, "sdpa_attention_forward", None)  # nobody else is asked
    found, weights = attention.attend(Module(heads, groups), *asked, None, scaling=scaling)
    assert weights is None and found.shape == (count, length, heads, 16)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)
    for one, other in zip(
        torch.autograd.grad(found, asked, gradient), expected_gradients, strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("queries", "keys", "masked"),
    [
        (attention.LONGEST + 1, attention.LONGEST + 1, False),
        (1, 1, False),
        (1, 9, False),
        (9, 9, True),
    ],
)
def test_anything_else_is_torchs(queries, keys, masked, monkeypatch):
    asked = []
    monkeypatch.setattr(
        attention, "sdpa_attention_forward", lambda *given, **more: (asked.append(more), None)
    )
    query, key, value = tensors(2, 2, 2, keys)
    mask = torch.ones(2, 1, keys, keys, dtype=torch.bool) if masked else None
    attention.attend(Module(2, 2), query[:, :, :queries], key, value, mask, scaling=0.5, dropout=0)
    assert asked == [{"scaling": 0.5, "dropout": 0}]


def test_policies_and_reward_models_learn_through_it(policy, scorer, monkeypatch):
    asked, ids_BL = [], torch.arange(4, 16).view(2, 6)
    real = torch.baddbmm

    def noticed(*given, **more):
        asked.append(given)
        return real(*given, **more)

    monkeypatch.setattr(torch, "baddbmm", noticed)
    everything = torch.ones(2, 6, dtype=torch.bool)
    for network in (policy.hidden, scorer.values):
        network(Batch(ids_BL, everything, everything))
        assert len(asked) == policy.lm.config.num_hidden_layers
        asked.clear()


def test_what_is_published_asks_for_no_attention_of_ours(policy, data_dir, tmp_path):
    publish_policy(policy, None, renderer(data_dir / "base"), tmp_path / "model", "")
    assert attention.NAME not in (tmp_path / "model" / "config.json").read_text()
