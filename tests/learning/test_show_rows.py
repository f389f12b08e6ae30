"""Rows are shown as tokens, with those that the loss is on: what training itself would encode."""

import pytest

from rlhf.learning.algorithms.show_rows import LISTED, show_row
from rlhf.learning.contract.reading import each_row
from rlhf.learning.contract.records import DataError
from rlhf.learning.models.folders import renderer
from tests.learning.conftest import asking, write_rows


@pytest.fixture(scope="module")
def render(data_dir):
    return renderer(data_dir / "base")


def shown(render, tmp_path, row, room=64):
    write_rows(tmp_path / "rows.jsonl", [row])
    [(_, read)] = each_row(tmp_path / "rows.jsonl")
    return read, show_row(render, read, room)


def said(text, learnt):
    return "".join(piece for piece, is_learnt in text["tokens"] if is_learnt == learnt)


def test_the_loss_is_on_the_answer_and_its_end_alone(render, tmp_path):
    row = {"prompt": asking("fig"), "completion": "sweet 🙂 fruit"}
    read, [text] = shown(render, tmp_path, row)
    assert said(text, True).startswith("sweet 🙂 fruit")
    assert said(text, True) != "sweet 🙂 fruit", "its end of turn is learnt"
    assert "fig" in said(text, False) and "sweet" not in said(text, False)
    encoded = render.encode(read.prompt, read.text, 64)
    assert said(text, False) == render.tokenizer.decode(encoded.prompt)
    assert "\ufffd" not in "".join(piece for piece, _ in text["tokens"])


def test_of_a_ranking_each_answer_is_shown(render, tmp_path):
    row = {"prompt": asking("fig"), "completions": ["sweet", "sour"], "ranks": [1, 2]}
    _, texts = shown(render, tmp_path, row)
    assert [said(text, True)[:4] for text in texts] == ["swee", "sour"]


def test_a_prompt_teaches_nothing_and_a_document_all_but_its_first_token(render, tmp_path):
    _, [asked] = shown(render, tmp_path, {"prompt": asking("fig")})
    assert "fig" in said(asked, False) and not said(asked, True)
    _, [text] = shown(render, tmp_path, {"text": "figs are sweet"})
    learnt = [is_learnt for _, is_learnt in text["tokens"]]
    assert learnt[0] is False and all(learnt[1:])


def test_of_a_long_text_both_ends_are_listed(render, tmp_path):
    _, [text] = shown(render, tmp_path, {"text": "fig " * 4 * LISTED})
    assert text["left_out"] > 0
    assert len(text["tokens"]) == 2 * LISTED


def test_what_training_would_refuse_is_refused(render, tmp_path):
    with pytest.raises(DataError, match="over the model's context"):
        shown(render, tmp_path, {"prompt": asking("fig " * 600), "completion": "a"})
