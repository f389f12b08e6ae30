"""Packing fills rows and changes no probability."""

import pytest
import torch

from rlhf.learning.algorithms.pretrain import collate_packed, cut, pack
from rlhf.learning.models import networks
from rlhf.learning.models.render import Encoded, Packed
from tests.learning.conftest import learn, read_rows, write_rows

TEXTS = [[5, 6, 7], [8, 9], [10, 11, 12, 13]]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_packed_text_is_what_it_is_alone(attention, policy):
    policy.lm.set_attn_implementation(attention)
    # Pad with a token of the texts: padding has no id of its own.
    rows = [Packed([TEXTS[0], TEXTS[1]]), Packed([TEXTS[2]])]
    together, _, _ = policy(collate_packed(rows, pad=6))
    alone = [policy(networks.collate([Encoded(text[:1], text[1:], True)], 0))[0] for text in TEXTS]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)


def test_positions_begin_again_with_every_text():
    batch = collate_packed([Packed([TEXTS[0], TEXTS[1]]), Packed([[1, 2]])], pad=0)
    assert batch.positions_BL[0].tolist() == [0, 1, 2, 0, 1]
    assert batch.positions_BL[1, :2].tolist() == [0, 1]
    assert batch.keep_BL.tolist() == [[False, True, True, False, True], [False, True, *[False] * 3]]


def test_rows_are_filled_and_nothing_is_lost():
    pieces = [[i] * n for i, n in enumerate((7, 3, 5, 5, 2, 8, 10, 1))]
    rows = pack(pieces, 10)
    assert max(len(row.ids) for row in rows) <= 10
    assert sorted(text for row in rows for text in row.texts) == sorted(pieces)
    assert len(rows) == 5  # 41 tokens need five rows of ten


def test_a_long_document_is_cut_and_a_scrap_dropped():
    assert cut(list(range(10)), 4, 2) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert cut(list(range(9)), 4, 2) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_sft_and_ppo_go_on_from_what_was_pretrained(make_run, data_dir):
    pretrained = make_run("pretrain", "pretrained")
    assert learn(pretrained, data_dir) == 0
    rows = [row for row in read_rows(pretrained / "metrics.jsonl") if row["split"] == "test"]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["token_accuracy"] >= rows[0]["token_accuracy"]
    start = {"policy": str(pretrained / "model")}
    assert learn(make_run("sft", "sft", models=start), data_dir) == 0
    ppo = make_run("ppo", "ppo", models={**start, "reward": "reward"}, train={"updates": 1})
    assert learn(ppo, data_dir) == 0


@pytest.mark.parametrize(
    ("rows", "train", "message"),
    [
        ([{"text": "a"}], {}, "every document is under 8 tokens"),
        ([{"text": " "}], {}, "line 1: text must be a text that is not empty"),
        ([{"text": "word " * 20}], {"row_tokens": 4096}, "over the model's context of 512"),
    ],
)
def test_what_cannot_be_packed_is_said(rows, train, message, make_run, data_dir, tmp_path):
    write_rows(tmp_path / "rows.jsonl", rows)
    folder = make_run("pretrain", data={"train": str(tmp_path / "rows.jsonl")}, train=train)
    assert learn(folder, data_dir) == 1
    assert message in (folder / "log.txt").read_text()
