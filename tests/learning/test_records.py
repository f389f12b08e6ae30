"""Rows are read strictly; figures come with honest intervals."""

import json

import pytest

from rlhf.learning.algorithms.preference import hold_out
from rlhf.learning.contract import figures, reading, records
from rlhf.learning.contract.records import DataError
from rlhf.learning.models.base import _conversations
from rlhf.learning.run.optimiser import rate_share
from rlhf.learning.run.training import by_length, endless, epoch_batches

PROMPT = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 1"),
        ([], "not a JSON object"),
        ({"prompt": PROMPT, "ranks": [1, 2]}, "missing 'completions'"),
        ({"prompt": PROMPT, "completions": ["a", "b"], "ranks": [1]}, "2 completions but 1 ranks"),
        ({"prompt": PROMPT, "completions": ["a"], "ranks": [1]}, "two or more"),
        ({"prompt": "hi", "completions": ["a", "b"], "ranks": [1, 2]}, "messages must be a list"),
        ({"prompt": [{"role": "user"}], "completions": ["a", "b"], "ranks": [1, 2]}, "'content'"),
    ],
)
def test_a_bad_row_is_named_by_its_line(row, message, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(row if isinstance(row, str) else json.dumps(row))
    with pytest.raises(DataError, match=message):
        reading.read_rankings(path)


def test_an_empty_file_and_an_absent_one_are_said(tmp_path):
    (tmp_path / "rows.jsonl").write_text("\n")
    with pytest.raises(DataError, match="empty"):
        reading.read_prompts(tmp_path / "rows.jsonl")
    with pytest.raises(DataError, match="no such file"):
        reading.read_prompts(tmp_path / "other.jsonl")


def test_rows_without_an_id_are_called_by_their_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": PROMPT, **more}) for more in ({}, {"id": 7})))
    assert [prompt.id for prompt in reading.read_prompts(path)] == ["1", "7"]


TWINS = ("Où est le café ?\nLà.", "Où est le cafe\u0301 ?\r\nLa\u0300.", "Où est le café ?\rLà.")


def of_prompt(text: str, n: int) -> records.Ranking:
    prompt = records.Prompt("x", ({"role": "user", "content": text},))
    return records.Ranking(prompt, (f"a{n}", "b"), (1, 2))


def test_a_prompt_and_its_twins_in_another_spelling_are_held_out_together():
    rankings = [of_prompt(f"{text} {n}", n) for n in range(50) for text in TWINS]
    assert len(records.aggregate(rankings)) == 50  # and their votes are counted together
    apart = [of_prompt(f"{text} {n}", at) for n in range(50) for at, text in enumerate(TWINS)]
    kept, held = hold_out(records.aggregate(apart), 0.3)
    assert len(kept) + len(held) == 150 and held
    ours = [
        {each.prompt.messages[0]["content"].split()[-1] for each in side} for side in (kept, held)
    ]
    assert not ours[0] & ours[1]


def test_the_key_of_plain_text_is_its_hash_so_that_runs_resume_with_the_same_prompts_held_out():
    messages = [{"role": "user", "content": "Why?\nSo."}]
    assert records.Prompt("x", tuple(messages)).key == records.content_hash(messages)


def test_prompts_are_held_out_whole():
    judged = records.aggregate(
        records.Ranking(records.Prompt("x", ({"role": "user", "content": str(i // 2)},)),
                        (f"a{i}", "b"), (1, 2))
        for i in range(100)
    )  # fmt: skip
    kept, held = hold_out(judged, 0.3)
    assert len(kept) + len(held) == 100 and held
    assert not {each.prompt.key for each in kept} & {each.prompt.key for each in held}
    assert hold_out(judged, 0.3) == (kept, held)


def test_the_interval_knows_that_comparisons_of_one_prompt_hang_together():
    values = [float(i // 10 % 2) for i in range(200)]  # 20 prompts, all right or all wrong
    alone = figures.clustered_mean(values, [1.0] * 200, [str(i) for i in range(200)])
    together = figures.clustered_mean(values, [1.0] * 200, [str(i // 10) for i in range(200)])
    assert alone.value == together.value == 0.5
    assert together.high - together.low > 2.5 * (alone.high - alone.low)


def test_a_model_that_means_its_probabilities_has_no_calibration_error():
    sure = [0.8] * 80 + [0.2] * 20  # says 80 %, and is right in 80 of 100
    assert figures.calibration_error(sure, [1.0] * 100) == pytest.approx(0)
    assert figures.calibration_error([0.99] * 50 + [0.01] * 50, [1.0] * 100) > 0.4


def test_an_epoch_shows_every_row_once_in_batches_of_like_length():
    lengths = [i * 7 % 50 for i in range(45)]
    batches = epoch_batches(lengths, 4, seed=1, epoch=0)
    assert sorted(i for batch in batches for i in batch) == list(range(45))
    spread = [max(lengths[i] for i in b) - min(lengths[i] for i in b) for b in batches]
    assert sum(spread) / len(spread) < 12
    assert batches != epoch_batches(lengths, 4, seed=1, epoch=1)


def test_an_endless_series_goes_on_from_any_place():
    whole = endless(7, seed=3, start=0, number=40)
    assert whole[15:25] == endless(7, seed=3, start=15, number=10)
    assert sorted(whole[7:14]) == list(range(7))


def test_micro_batches_begin_with_the_longest():
    assert by_length(["a", "bbb", "cc"], len, 2) == [["bbb", "cc"], ["a"]]


def test_the_rate_rises_and_falls():
    rates = [rate_share(step, 100, 0.1, "linear") for step in range(100)]
    assert rates[0] < rates[5] < rates[10] == max(rates) == 1 and rates[99] < 0.02
    assert rate_share(55, 100, 0.1, "cosine") == pytest.approx(0.5)
    assert rate_share(99, 100, 0.0, "constant") == 1


def ranking(ranks, labeler="", completions=("a", "b", "c"), **more):
    prompt = records.Prompt("p", ({"role": "user", "content": more.pop("prompt", "hi")},))
    return records.Ranking(prompt, completions, ranks, labeler=labeler, **more)


def shares(judged):
    return {(each.better, each.worse): each.share for each in judged.comparisons}


def test_a_tie_is_no_pair_or_half_a_vote_each_way():
    (skipped,) = records.aggregate([ranking((1, 1, 2))])
    assert shares(skipped) == {(0, 2): 1.0, (1, 2): 1.0}
    (half,) = records.aggregate([ranking((1, 1, 2))], ties="half")
    assert shares(half) == {(0, 1): 0.5, (1, 0): 0.5, (0, 2): 1.0, (1, 2): 1.0}
    assert sum(each.weight for each in half.comparisons) == pytest.approx(1)
    # One labeler ties what another tells apart: three quarters of a vote.
    (both,) = records.aggregate([ranking((1, 1, 2)), ranking((1, 2, 3))], ties="half")
    assert shares(both)[0, 1] == 0.75


def test_a_vote_weighs_what_its_labeler_is_worth():
    (judged,) = records.aggregate(
        [ranking((1, 2, 3), reliability=1.5), ranking((2, 1, 3), reliability=0.5)]
    )
    assert shares(judged)[0, 1] == 0.75 and shares(judged)[1, 0] == 0.25
    assert sum(each.weight for each in judged.comparisons) == pytest.approx(1)
    (alone,) = records.aggregate([ranking((1, 2, 3), reliability=0.5)])
    assert sum(each.weight for each in alone.comparisons) == pytest.approx(0.5)


def test_who_agrees_with_nobody_weighs_least():
    rankings = [
        ranking(ranks, name, prompt=str(i))
        for i in range(10)
        for name, ranks in (("alice", (1, 2, 3)), ("bob", (1, 2, 3)), ("mallory", (3, 2, 1)))
    ]
    rankings.append(ranking((1, 2, 3), "newcomer", prompt="alone"))
    weights = {each.labeler: each.reliability for each in records.agreement_weights(rankings)}
    assert weights["alice"] == weights["bob"] > 1 > weights["mallory"] == 0.05
    assert weights["mallory"] <= weights["newcomer"] < weights["alice"]
    alone = [ranking((1, 2, 3), "alice")]
    assert records.agreement_weights(alone) == alone


def test_a_pair_is_a_ranking_of_two(tmp_path):
    path = tmp_path / "pairs.jsonl"
    answer = [{"role": "assistant", "content": "good"}]
    path.write_text(
        json.dumps({"prompt": PROMPT, "chosen": answer, "rejected": "bad", "margin": 2})
    )
    (pair,) = reading.read_rankings(path)
    assert (pair.completions, pair.ranks, pair.strength) == (("good", "bad"), (1, 2), 2.0)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": PROMPT, "completion": "yes"}, "missing 'label'"),
        ({"prompt": PROMPT, "completion": "yes", "label": 1}, "label must be true or false"),
        ({"prompt": PROMPT, "completion": [], "label": True}, "messages must be a list"),
        ({"prompt": PROMPT, "completion": PROMPT * 2, "label": True}, "must be one message"),
        (
            {"prompt": PROMPT, "completion": "a", "label": True, "finish_reasons": ["stop"] * 2},
            "1 completions but 2 finish_reasons",
        ),
    ],
)
def test_a_thumb_is_up_or_down(row, message, tmp_path):
    path = tmp_path / "thumbs.jsonl"
    path.write_text(json.dumps(row))
    with pytest.raises(DataError, match=message):
        reading.read_thumbs(path)


@pytest.mark.parametrize(
    ("reason", "finished"),
    [(None, True), ("", True), ("stop", True), ("length", False), ("stopped", False)],
)
def test_a_row_says_whether_its_answers_were_cut_off(reason, finished, tmp_path):
    path = tmp_path / "rows.jsonl"

    def read(reader, count, **row):
        reasons = {} if reason is None else {"finish_reasons": [reason] * count}
        path.write_text(json.dumps({"prompt": PROMPT, **row, **reasons}))
        return reader(path)

    (thumb,) = read(reading.read_thumbs, 1, completion="yes", label=True)
    assert thumb.finished == finished
    for answers in ({"chosen": "a", "rejected": "b"}, {"completions": ["a", "b"], "ranks": [1, 2]}):
        (judged,) = records.aggregate(read(reading.read_rankings, 2, **answers))
        assert judged.finished == (finished, finished)


def test_accuracy_is_told_by_agreement_labeler_and_author():
    rankings = [
        ranking((1, 2), "alice", ("good", "bad"), prompt="x", policies=("p", "q")),
        ranking((1, 2), "bob", ("good", "bad"), prompt="x", policies=("p", "q")),
        ranking((1, 2), "alice", ("one", "two"), prompt="y", policies=("p", "p")),
        ranking((2, 1), "bob", ("one", "two"), prompt="y", policies=("p", "p")),
    ]
    judged = records.aggregate(rankings)
    found = figures.agreement_figures(judged, [[1.0, 0.0], [1.0, 0.0]], {"alice"})
    assert found["reward/human_agreement"] == 0.5  # two votes of four have a second like them
    assert found["reward/accuracy/unanimous"] == 1.0
    assert found["reward/accuracy/disputed"] == 0.5
    assert found["reward/accuracy/labeler/alice"] == 1.0
    assert found["reward/accuracy/labeler/bob"] == found["reward/accuracy/unseen_labelers"]
    assert found["reward/accuracy/cross_policy"] == 1.0
    assert found["reward/accuracy/same_policy"] == 0.5
    plain = figures.ranking_figures(judged, [[1.0, 0.0], [1.0, 0.0]], [[3, 3], [3, 3]])
    assert plain["reward/ceiling"] == plain["reward/accuracy"] == 0.75
    assert plain["reward/margin"] == 0.5


def test_the_diagram_says_how_often_what_was_said_came_true():
    said = [0.8] * 3 + [0.2] + [0.55]
    (low, high) = figures.reliability_diagram(said, [1.0] * 5)
    assert low == pytest.approx((0.6, 0.55, 1.0, 1.0))
    assert high == pytest.approx((0.9, 0.8, 0.75, 4.0))


@pytest.mark.parametrize(
    ("reader", "row"),
    [
        (reading.read_rankings, {"chosen": "a", "rejected": ""}),
        (reading.read_rankings, {"completions": ["a", ""], "ranks": [1, 2]}),
        (reading.read_thumbs, {"completion": "", "label": False}),
    ],
)
def test_an_empty_answer_is_judged_alike_in_every_shape(reader, row, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": PROMPT, **row}))
    assert len(reader(path)) == 1
    count = 1 if "label" in row else 2
    path.write_text(json.dumps({"prompt": PROMPT, **row, "finish_reasons": ["length"] * count}))
    with pytest.raises(DataError, match=r"line 1: an answer is empty and was cut off"):
        reader(path)


def test_an_empty_demonstration_is_refused_by_its_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    good = json.dumps({"prompt": PROMPT, "completion": "a"})
    path.write_text(good + "\n" + json.dumps({"prompt": PROMPT, "completion": " "}))
    with pytest.raises(DataError, match="line 2: completion is empty"):
        reading.read_demonstrations(path)


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e999", '"nan"', "1" + "0" * 400]
)
@pytest.mark.parametrize(
    "row",
    [
        '"chosen":"a","rejected":"b","margin":%s',
        '"completions":["a","b"],"ranks":[1,2],"strength":%s',
        '"completions":["a","b"],"ranks":[1,2],"reliability":%s',
        '"completions":["a","b"],"ranks":[1,%s]',
    ],
)
def test_a_number_that_is_none_is_refused_by_its_line(row, number, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt":[{"role":"user","content":"hi"}],' + row % number + "}")
    with pytest.raises(DataError, match="line 1"):
        reading.read_rankings(path)


def test_half_a_character_is_refused_and_odd_ones_are_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": PROMPT, "completion": "sky \ud83d"}))
    with pytest.raises(DataError, match=r"line 1: a text holds half a character \('\\ud83d'\)"):
        reading.read_demonstrations(path)
    text = "\ufeffone\u2028two\u0000\x85🙂"
    for escaped in (True, False):
        row = json.dumps({"prompt": PROMPT, "completion": text}, ensure_ascii=escaped)
        path.write_text("\ufeff" + row + "\n", encoding="utf-8")
        assert [each.text for each in reading.read_demonstrations(path)] == [text]
    path.write_text(json.dumps({"prompt": [{"role": "user", "content": text}]}, ensure_ascii=False))
    assert list(_conversations(path)) == [[("user", text)]]


def test_a_role_that_could_spell_a_control_token_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": [{"role": "end", "content": "hi"}]}))
    with pytest.raises(DataError, match="role must be one of system, .*not 'end'"):
        reading.read_prompts(path)


@pytest.mark.parametrize("shape", ["pairs", "one list", "lists in another order"])
def test_pairs_that_contradict_meet_whatever_their_order(shape, tmp_path):
    rows = {
        "pairs": [{"chosen": "a", "rejected": "b"}, {"chosen": "b", "rejected": "a"}],
        "one list": [
            {"completions": ["a", "b"], "ranks": [1, 2]},
            {"completions": ["a", "b"], "ranks": [2, 1]},
        ],
        "lists in another order": [
            {"completions": ["a", "b"], "ranks": [1, 2]},
            {"completions": ["b", "a"], "ranks": [1, 2]},
        ],
    }[shape]
    path = tmp_path / "rows.jsonl"
    written = [
        {"prompt": PROMPT, "labeler": name, **row} for name, row in zip("xy", rows, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in written))
    (judged,) = records.aggregate(reading.read_rankings(path))
    assert shares(judged) == {(0, 1): 0.5, (1, 0): 0.5}
    plain = figures.ranking_figures([judged], [[1.0, 0.0]], [[3, 3]])
    finer = figures.agreement_figures([judged], [[1.0, 0.0]], {"x", "y"})
    assert plain["reward/ceiling"] == 0.5 and finer["reward/human_agreement"] == 0
    assert "reward/accuracy/disputed" in finer and "reward/accuracy/unanimous" not in finer


def test_a_ranking_is_told_over_another_order_with_all_that_it_says():
    told = ranking((1, 2, 3), completions=("a", "b", "b"), finished=(True, False, True),
                   policies=("p", "q", "r"))  # fmt: skip
    moved = told.like(("b", "a", "b"))
    assert moved.ranks == (2, 1, 3) and moved.policies == ("q", "p", "r")
    assert moved.finished == (False, True, True)


def test_no_batch_is_more_than_a_row_larger_than_another():
    for count in (1, 15, 16, 17, 33, 129, 300):
        batches = epoch_batches([i * 7 % 50 for i in range(count)], 16, seed=1, epoch=0)
        sizes = [len(batch) for batch in batches]
        assert sorted(i for batch in batches for i in batch) == list(range(count))
        assert len(sizes) == -(-count // 16) and max(sizes) - min(sizes) <= 1 and max(sizes) <= 16


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ('{"completion": "caf\u00e9"}'.encode("latin-1"), r"is not UTF-8 \(byte 0xe9 at 19\)"),
        ('{"completion": "a"}'.encode("utf-16"), r"is not UTF-8 \(byte 0xff at 0\)"),
        (b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "a thousand deep"),
    ],
)
def test_what_cannot_even_be_parsed_is_refused_by_its_line(second, reason, tmp_path):
    path = tmp_path / "rows.jsonl"
    good = json.dumps({"prompt": PROMPT, "completion": "a"}).encode()
    path.write_bytes(good + b"\r\n" + second)
    with pytest.raises(DataError, match=f"rows.jsonl, line 2: .*{reason}"):
        reading.read_demonstrations(path)
