"""Answers drawn from policies; sampling that is stopped goes on, and nobody can tell from them."""

import json

import pytest

from rlhf.learning.contract.kinds.sample import Sample
from rlhf.learning.generation import sample
from rlhf.learning.run.run_folder import DONE, STOPPED
from tests.learning.conftest import asking, learn, read_rows
from tests.learning.test_runs import AfterCalls, numbers

OUTPUT = "completions.jsonl"


@pytest.fixture
def asked(monkeypatch):
    """How many answers were asked for at a time."""
    seen, generate = [], sample.generate

    def counted(lm, prompts, *more):
        seen.append(len(prompts))
        return generate(lm, prompts, *more)

    monkeypatch.setattr(sample, "generate", counted)
    return seen


@pytest.fixture
def make_sampling(make_run):
    """Two policies, 16 answers each, in batches of 5, 5, 5 and 1."""
    policies = {name: {"path": "base", "temperature": t} for name, t in (("a", 0.5), ("b", 1.0))}

    def make(name, **train):
        models = {"policies": policies, "reward": "reward"}
        return make_run("sample", name, models=models, train={"batch_size": 5, **train})

    return make


@pytest.mark.parametrize("batches", [1, 4, 6])
def test_what_is_whole_is_kept_and_the_rest_is_what_it_would_have_been(
    batches, make_sampling, data_dir, asked
):
    whole, broken = make_sampling("whole"), make_sampling("broken")
    assert learn(whole, data_dir) == DONE
    everything = list(asked)
    assert everything == [5, 5, 5, 1] * 2
    asked.clear()
    assert learn(broken, data_dir, stop=AfterCalls(batches - 1)) == STOPPED
    assert asked == everything[:batches]
    with (broken / OUTPUT).open("a") as file:
        file.write('{"id": "d3", "pol')  # and then a kill
    assert learn(broken, data_dir) == DONE
    assert asked == everything
    assert (broken / OUTPUT).read_bytes() == (whole / OUTPUT).read_bytes()
    assert numbers(broken) == numbers(whole)
    said = [json.loads((folder / "outcome.json").read_text()) for folder in (whole, broken)]
    assert said[0] == said[1] and said[0]["completions"] == 32


def test_a_stop_after_the_last_batch_stops_nothing(make_sampling, data_dir, asked):
    folder = make_sampling("run")
    assert learn(folder, data_dir, stop=AfterCalls(7)) == DONE
    assert learn(folder, data_dir) == DONE
    assert len(asked) == 8 and len(read_rows(folder / OUTPUT)) == 32


def test_answers_to_another_config_are_not_kept(make_sampling, data_dir, asked):
    folder = make_sampling("run")
    assert learn(folder, data_dir, stop=AfterCalls(3)) == STOPPED
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "seed": 4}))
    assert learn(folder, data_dir) == DONE
    assert asked == [5, 5, 5, 1] * 3
    assert len({row["seed"] for row in read_rows(folder / OUTPUT)}) == 32


def test_rows_of_the_published_policy_are_sampled_with_a_seed_each(make_run, data_dir):
    policies = {
        "plain": {"path": "base", "temperature": 0.2},
        "terse": {
            "path": "base",
            "system_prompt": "Be brief.",
            "few_shot": [*asking("kiwi"), {"role": "assistant", "content": "green"}],
            "max_new_tokens": 3,
        },
    }
    models = {"policies": policies, "reward": "reward"}
    one, other = (make_run("sample", n, models=models, train={"batch_size": b})
                  for n, b in (("one", 16), ("other", 5)))  # fmt: skip
    assert learn(one, data_dir) == learn(other, data_dir) == DONE
    rows, others = (read_rows(folder / "completions.jsonl") for folder in (one, other))
    assert len(rows) == 2 * 8 * 2
    keys = ("id", "policy", "index", "text", "seed", "finish_reason", "tokens")
    assert [[r[k] for k in keys] for r in rows] == [[r[k] for k in keys] for r in others]
    assert [r["score"] for r in rows] == pytest.approx([r["score"] for r in others], abs=1e-4)
    assert len({row["seed"] for row in rows}) == len(rows)
    assert all(row["tokens"] <= 3 for row in rows if row["policy"] == "terse")
    assert {row["finish_reason"] for row in rows} <= {"stop", "length"}
    assert {(row["policy"], row["temperature"], row["max_new_tokens"]) for row in rows} == {
        ("plain", 0.2, 6),
        ("terse", Sample.temperature, 3),
    }


def test_a_prompt_that_goes_on_is_answered_to_its_end(make_run, data_dir, asked):
    """One row goes on twice, one once; the others are answered as they are without them."""
    told = json.loads((make_run("sample", "plain") / "config.json").read_text())["data"]["train"]
    rows = read_rows(data_dir / told)[:4]
    going_on = [{**row, "then": then} for row, then in zip(rows, TURNS, strict=True)]
    for name, lines in (("some", rows), ("going_on", going_on)):
        text = "".join(json.dumps(each) + "\n" for each in lines)
        (data_dir / f"{name}.jsonl").write_text(text)
    policies = {"models": {"policies": {"a": {"path": "base", "temperature": 0.7}}}}
    said = {}
    for name, size in (("some", 8), ("going_on", 8), ("going_on", 3)):
        run = make_run(
            "sample", f"{name}{size}", data={"train": f"{name}.jsonl"},
            train={"batch_size": size, "k": 1}, **policies,
        )  # fmt: skip
        assert learn(run, data_dir) == DONE
        said[name, size] = [row["text"] for row in read_rows(run / OUTPUT)]
    assert said["going_on", 8] == said["going_on", 3]
    assert [one == other for one, other in zip(*list(said.values())[:2], strict=True)] == [
        True, False, False, True,
    ]  # fmt: skip
    assert asked[:4] == [4, 4, 2, 1]


TURNS = [[], ["And then?", "Why?"], ["Really?"], []]
