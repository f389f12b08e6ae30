"""What the engine decodes, alone and among others."""

import time
from functools import partial
from pathlib import Path

import pytest
import torch

from rlhf.learning.generation.sampling import within
from rlhf.learning.serving import shelf as shelves
from rlhf.learning.serving.engine import End, Full, Place
from tests.learning.serving.conftest import QUESTIONS, Heard, as_trained, endless, wait_for


def test_the_most_likely_tokens_are_those_of_transformers_alone_and_among_others(policy, engine):
    """Prompts of several lengths come and go while others are being answered."""
    theirs = []
    for number, messages in enumerate(QUESTIONS):
        ids = torch.tensor([policy.render.messages(messages)])
        out = policy.lm.generate(
            ids,
            do_sample=False,
            max_new_tokens=8 + 5 * number,
            eos_token_id=sorted(policy.stops),
            pad_token_id=policy.render.pad,
        )
        theirs.append(out[0, ids.shape[1] :].tolist())

    def ask(number):
        return Heard(policy, QUESTIONS[number], temperature=0, max_tokens=8 + 5 * number)

    running = engine(rows=3)  # the others wait, and join when one leaves
    for number, expected in enumerate(theirs):
        alone = ask(number)
        running.submit([alone.row])
        assert alone.ids == expected
    together = [ask(number) for number in range(len(QUESTIONS))]
    for each in together:
        running.submit([each.row])
    assert [each.ids for each in together] == theirs


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_a_seed_gives_the_trainer_s_answer_whoever_else_is_answered(policy, engine, temperature):
    asked = [
        Heard(policy, each, seed=n, temperature=temperature) for n, each in enumerate(QUESTIONS)
    ]
    running = engine()
    running.submit([each.row for each in asked])
    for seed, (heard, messages) in enumerate(zip(asked, QUESTIONS, strict=True)):
        assert heard.ids == as_trained(policy, messages, seed, 24, temperature)
        assert heard.text == policy.render.text(heard.ids)


def test_a_long_prompt_is_read_in_pieces_to_the_same_answer(policy, engine, monkeypatch):
    monkeypatch.setattr("rlhf.learning.serving.engine.READ_TOKENS", 7)
    heard = Heard(policy, QUESTIONS[7], temperature=0)
    engine().submit([heard.row])
    assert heard.ids == as_trained(policy, QUESTIONS[7], 0, 24, 0)
    assert len(heard.row.prompt) > 20


def test_a_model_of_another_build_is_answered_through_transformers(policy, engine, monkeypatch):
    monkeypatch.setattr("rlhf.learning.serving.slots.is_like_llama", lambda lm: False)
    monkeypatch.setattr("rlhf.learning.generation.decoding.is_like_llama", lambda lm: False)
    other = shelves.load(Path(policy.name), rows=8)
    assert type(other.memory).__name__ == "OneByOne"
    asked = [Heard(other, each, seed=n) for n, each in enumerate(QUESTIONS)]
    engine().submit([each.row for each in asked])
    for seed, (heard, messages) in enumerate(zip(asked, QUESTIONS, strict=True)):
        assert heard.ids == as_trained(policy, messages, seed, 24, 1.0)


def test_the_likeliest_words_within_top_p_are_those_of_transformers():
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    torch.manual_seed(0)
    logits = torch.randn(20, 50) * 3
    for top_p in (0.05, 0.5, 0.95):
        warm = TemperatureLogitsWarper(0.7)(None, logits)
        theirs = TopPLogitsWarper(top_p)(None, warm).isfinite()
        assert torch.equal(within(logits, top_p, 0.7).isfinite(), theirs)
    assert within(logits, 1.0, 0.7) is logits


def test_who_hangs_up_leaves_the_batch_and_the_others_go_on(policy, engine):
    stays = Heard(policy, QUESTIONS[2], seed=1, max_tokens=60)
    leaves = [Heard(policy, QUESTIONS[n], seed=n, max_tokens=400) for n in (0, 1, 3)]
    for each in leaves:  # they would talk for ever
        each.row.take = partial(endless, each.row)
    running = engine()
    running.submit([leaves[0].row, leaves[1].row, stays.row, leaves[2].row])
    wait_for(lambda: all(each.row.ids for each in leaves))
    running.cancel([each.row for each in leaves])
    assert stays.ids == as_trained(policy, QUESTIONS[2], 1, 60, 1.0)
    wait_for(lambda: running.state == {"running": 0, "waiting": 0})
    assert policy.memory.bytes == 0
    assert not any(each.over.is_set() for each in leaves)


def test_who_waits_is_told_the_place_and_who_comes_to_a_full_queue_is_refused(policy, engine):
    running = engine(rows=1, queue=2)
    first, second, third, fourth = (
        Heard(policy, each, max_tokens=40, temperature=0) for each in QUESTIONS[:4]
    )
    talks = Heard(policy, QUESTIONS[4], max_tokens=400, seed=3)
    talks.row.policy.stops, stops = frozenset(), talks.row.policy.stops
    try:
        running.submit([talks.row])
        wait_for(lambda: talks.row.ids)
        running.submit([first.row])
        running.submit([second.row])
        wait_for(lambda: second.events)
        with pytest.raises(Full):
            running.submit([third.row])
        assert running.state == {"running": 1, "waiting": 2}
        running.cancel([talks.row])
    finally:
        talks.row.policy.stops = stops
    assert second.text == policy.render.text(second.ids)
    assert [each for each in second.events if isinstance(each, Place)] == [Place(2), Place(1)]
    assert first.events[0] == Place(1)
    running.submit([third.row])
    assert third.end and not fourth.events


def test_answers_that_would_take_too_much_memory_wait_for_each_other(policy, engine):
    one = policy.memory.bytes_with([200])
    running = engine(limit=2 * one)
    asked = [Heard(policy, each, seed=n, max_tokens=100) for n, each in enumerate(QUESTIONS)]
    most = 0
    running.submit([each.row for each in asked])
    while not all(each.over.is_set() for each in asked):
        most = max(most, policy.memory.bytes)
        time.sleep(0.001)
    assert 0 < most <= 2 * one
    for seed, (heard, messages) in enumerate(zip(asked, QUESTIONS, strict=True)):
        assert heard.ids == as_trained(policy, messages, seed, 100, 1.0)
    alone = Heard(policy, QUESTIONS[0], max_tokens=450)
    engine(limit=1).submit([alone.row])
    assert alone.end.reason in ("stop", "length")


def test_what_cannot_be_decoded_ends_and_the_next_is_answered(policy, engine, monkeypatch):
    running = engine()
    broken, sound = (Heard(policy, QUESTIONS[0], temperature=0) for _ in range(2))
    monkeypatch.setattr(broken.row, "take", lambda logits: 1 / 0)
    running.submit([broken.row])
    assert broken.end == End("error", 0)
    running.submit([sound.row])
    assert sound.ids == as_trained(policy, QUESTIONS[0], 0, 24, 0)
    assert running.state == {"running": 0, "waiting": 0}
