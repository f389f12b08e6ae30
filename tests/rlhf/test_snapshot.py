import json

import pytest
from django.conf import settings
from hypothesis import example, given
from hypothesis import strategies as st

from annotate.models import Demonstration, Prompt, Ranking, Review
from annotate.prompts.models import prompt_key
from rlhf.data.snapshot import pseudonym, write
from rlhf.learning.contract import records
from rlhf.models import LeaseLost, Run, Snapshot
from rlhf.models.leases import claim
from tests.rlhf.conftest import collect, freeze, rank


def rows(run: Run, name: str) -> list[dict]:
    file = settings.DATA_DIR / run.folder / "data" / f"{name}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


def as_of_now(round) -> None:
    """As if it had been launched just now."""
    round.filters = {}
    round.save()


def frozen(round, kind: str) -> Run:
    """The run of that stage, its labels frozen."""
    for run in round.runs.order_by("position"):
        lease = claim(run.pk)
        if run.kind == kind:
            freeze(lease)
            return run
        run.succeed(token=lease.token, summary={})
    raise AssertionError


def test_sft_learns_from_demonstrations_and_looks_at_held_out_ones(round, alice):
    run = frozen(round, Run.Kind.SFT)
    train, test = rows(run, "train"), rows(run, "test")
    assert (len(train), len(test)) == (16, 4)
    demonstration = Demonstration.objects.get(pk=train[0]["id"])
    assert train[0] == {
        "id": demonstration.pk,
        "prompt_id": demonstration.prompt_id,
        "prompt": demonstration.prompt.messages,
        "completion": [{"role": "assistant", "content": demonstration.text}],
    }
    assert run.snapshot.demonstrations.count() == 20
    assert run.snapshot.counts == {"train": 16, "test": 4}


def test_the_reward_model_learns_from_whole_rankings(round, alice):
    run = frozen(round, Run.Kind.REWARD)
    row = rows(run, "train")[0]
    ranking = Ranking.objects.get(pk=row["id"])
    assert row["completions"] == ["Answer 0", "Answer 1", "Answer 2"]
    assert row["ranks"] == [1, 2, 2]
    assert row["labeler"] == pseudonym(ranking.labeler)
    assert "alice" not in json.dumps(row)
    assert len(rows(run, "train")) == 32
    assert run.snapshot.rankings.count() == 40


@pytest.mark.parametrize("kind", ["sft", "reward", "ppo"])
def test_a_held_out_prompt_never_trains(round, kind):
    run = frozen(round, kind)
    splits = Prompt.objects.in_bulk([row["prompt_id"] for row in rows(run, "train")])
    assert {prompt.split for prompt in splits.values()} == {"train"}
    judged = Prompt.objects.in_bulk([row["prompt_id"] for row in rows(run, "test")])
    assert "train" not in {prompt.split for prompt in judged.values()}
    calibration = settings.DATA_DIR / run.folder / "data/calibration.jsonl"
    if calibration.exists():
        shown = Prompt.objects.in_bulk([row["prompt_id"] for row in rows(run, "calibration")])
        assert "test" not in {prompt.split for prompt in shown.values()}


@pytest.mark.parametrize("kind", ["sft", "reward", "ppo"])
def test_the_same_labels_give_the_same_bytes(round, data_dir, kind):
    run = round.runs.get(kind=kind)
    first = write(data_dir / "one", collect(run).files)
    second = write(data_dir / "two", collect(run).files)
    assert first == second
    for name in first["files"]:
        one, two = (data_dir / folder / f"{name}.jsonl" for folder in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_a_second_attempt_keeps_the_first_snapshot(round, alice, prompts):
    run = round.runs.get(kind=Run.Kind.SFT)
    snapshot = freeze(claim(run.pk))
    before = rows(run, "train")
    Demonstration.objects.create(prompt=prompts[0], labeler=alice, text="A later thought")
    Run.objects.filter(pk=run.pk).update(state=Run.State.QUEUED)
    assert freeze(claim(run.pk)) == snapshot
    assert rows(run, "train") == before


def test_a_stale_worker_freezes_nothing(round):
    run = round.runs.get(kind=Run.Kind.SFT)
    stale = claim(run.pk)
    Run.objects.filter(pk=run.pk).update(lease_token=9)
    with pytest.raises(LeaseLost):
        freeze(stale)
    assert not Snapshot.objects.exists()
    assert not (settings.DATA_DIR / run.folder / "data").exists()


@pytest.mark.parametrize(
    ("verdicts", "is_in"),
    [
        ([], True),
        (["accepted"], True),
        (["excluded"], False),
        (["sent_back"], False),
        (["excluded", "accepted"], True),
        (["accepted", "excluded"], False),
    ],
)
def test_the_last_review_decides(round, rita, verdicts, is_in):
    demonstration = Demonstration.objects.in_split("train").first()
    for verdict in verdicts:
        Review.objects.create(demonstration=demonstration, reviewer=rita, verdict=verdict)
    as_of_now(round)
    run = round.runs.get(kind=Run.Kind.SFT)
    ids = [row["id"] for row in collect(run).files["train"]]
    assert (demonstration.pk in ids) == is_in


def test_only_the_newest_revision_counts(round, alice):
    old, retracted, *_ = Demonstration.objects.in_split("train")
    new = Demonstration.objects.create(
        prompt=old.prompt, labeler=alice, text="Better", supersedes=old, revision_no=2
    )
    Demonstration.objects.filter(pk=retracted.pk).update(retracted=True)
    as_of_now(round)
    ids = [row["id"] for row in collect(round.runs.get(kind=Run.Kind.SFT)).files["train"]]
    assert new.pk in ids
    assert not {old.pk, retracted.pk} & set(ids)


def test_ties_and_all_bad_rankings_teach_nothing(round, base, bob, prompts):
    tie = rank(prompts[0], base, bob, places=[1, 1])
    bad = rank(prompts[1], base, bob, places=[1, 2])
    Ranking.objects.filter(pk=bad.pk).update(outcome=Ranking.Outcome.ALL_BAD)
    as_of_now(round)
    ids = [row["id"] for row in collect(round.runs.get(kind=Run.Kind.REWARD)).files["train"]]
    assert not {tie.pk, bad.pk} & set(ids)


def test_a_pseudonym_is_stable_and_says_who_is_simulated(alice, bob):
    assert pseudonym(alice) == pseudonym(alice) != pseudonym(bob)
    assert pseudonym(alice).startswith("labeler-")
    bob.is_simulated = True
    assert pseudonym(bob).startswith("simulated-")


LETTERS = st.text(st.sampled_from("ae\u0301é\r\n\u2028が\u304b\u3099ﬁf ic"), max_size=6)


@given(one=LETTERS, other=LETTERS)
@example(one="é\r\n", other="e\u0301\n")
def test_prompts_are_one_to_the_trainer_where_they_are_one_to_the_site(one, other):
    asked = [[{"role": "user", "content": text}] for text in (one, other)]
    on_site = {prompt_key(messages) for messages in asked}
    in_training = {records.Prompt("x", tuple(messages)).key for messages in asked}
    assert len(on_site) == len(in_training)
