"""Simulated labelers: what they like, how often they err, and that they say what they are."""

import json
import random
from io import StringIO
from itertools import permutations

import pytest
from django.core.management import CommandError, call_command

from annotate.exchange.exports.exporting import lines
from annotate.models import Completion, Membership, Ranking, Task
from rlhf.demo import labelers
from rlhf.demo.labelers import NOISE, NoiseCounts, gold_score, hire, noisy_places, rank_all
from rlhf.demo.wheel import new_project, short_enough


@pytest.mark.parametrize(
    "text, finish_reason, score",
    [
        ("One two three.", "stop", -3),
        ("One  two\nthree.", "", -3),
        ("One.", "stop", -1),
        ("One.", "length", labelers.WORST),
        ("", "stop", labelers.WORST),
        (" \n", "stop", labelers.WORST),
    ],
)
def test_fewer_words_are_liked_and_what_is_cut_off_or_empty_is_not(text, finish_reason, score):
    assert gold_score(Completion(text=text, finish_reason=finish_reason)) == score


@pytest.mark.parametrize("k", range(2, 10))
def test_the_share_of_pairs_turned_round_is_the_noise_aimed_at(k):
    generator, counts = random.Random(k), NoiseCounts()
    for _ in range(3000):
        scores = [float(score) for score in generator.sample(range(100), k)]
        counts.count(scores, noisy_places(scores, noise=NOISE, generator=generator))
    assert counts.noise == pytest.approx(NOISE, abs=0.02)


@pytest.mark.parametrize("scores", list(permutations([-3.0, -5.0, -5.0, labelers.WORST])))
def test_without_noise_the_order_is_the_liking_and_equals_share_a_place(scores):
    places = noisy_places(list(scores), noise=0.0, generator=random.Random(1))
    assert dict(zip(scores, places, strict=True)) == {-3.0: 1, -5.0: 2, labelers.WORST: 3}


def test_pairs_are_counted_pairs_with_a_difference_only():
    counts = NoiseCounts()
    counts.count([-1.0, -2.0, -2.0], [1, 2, 2])
    counts.count([-2.0, -1.0, -2.0], [1, 2, 3])
    assert (counts.rankings, counts.pairs, counts.flipped) == (2, 4, 1)


@pytest.fixture
def ranked(project, rank_task):
    """Twenty tasks for three, of answers of 1 to 4 words, the longest cut off."""
    for _ in range(20):
        task = rank_task(k=4, overlap=3)
        for number, completion in enumerate(task.completions.order_by("pk")):
            completion.text = "word " * (number + 1)
            completion.finish_reason = "length" if number == 3 else "stop"
            completion.save()
    people = [hire(project, name) for name in labelers.NAMES]
    return people, rank_all(project, people, seed=0)


def test_they_answer_every_task_through_the_queue(ranked, project):
    people, counts = ranked
    assert counts.rankings == Ranking.objects.count() == 60
    assert counts.pairs == 360
    assert not Task.objects.open().of_kind(Task.Kind.RANK).exists()
    assert {ranking.labeler for ranking in Ranking.objects.all()} == set(people)
    assert counts.noise == pytest.approx(NOISE, abs=0.1)


def test_they_say_that_they_are_simulated(ranked, project):
    for line in map(json.loads, lines(project, "rankings")):
        assert line["simulated"] is True
        assert line["reason"].startswith("simulated")
    assert all("simulated" in person.display_name for person in ranked[0])
    assert not any(person.has_usable_password() for person in ranked[0])


def test_nobody_real_is_taken_for_simulated(project, alice):
    with pytest.raises(AssertionError, match="alice is a person"):
        hire(project, "alice")


def test_they_leave_writing_to_people(project, write_task):
    write_task()
    anna = hire(project, "sim-anna")
    assert rank_all(project, [anna], seed=0).rankings == 0
    assert Membership.objects.get(user=anna).role == Membership.Role.LABELER


def test_prompts_too_long_for_the_model_leave_an_empty_line(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "short"}\n{"prompt": "much too long"}\nno JSON\n')
    kept, left_out = short_enough(file, 10)
    assert kept.read() == b'{"prompt": "short"}\n\nno JSON\n'
    assert left_out == 1


@pytest.mark.django_db
def test_each_turn_has_a_project_of_its_own():
    assert [new_project().slug, new_project().slug] == ["demo-wheel-1", "demo-wheel-2"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--model", "tiny"], "There is no base model in .*base-tiny. Make it: python -m"),
        (["--model", "huge"], "invalid choice"),
    ],
)
def test_the_command_says_what_is_missing(arguments, sentence, settings, tmp_path):
    settings.DATA_DIR = tmp_path
    with pytest.raises(CommandError, match=sentence):
        call_command("demo", *arguments, stdout=StringIO())


@pytest.mark.django_db
def test_the_command_wants_demonstrations_in_the_folder(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    (tmp_path / "models" / "base-tiny").mkdir(parents=True)
    with pytest.raises(CommandError, match="no demonstrations.jsonl in"):
        call_command("demo", "--data", str(tmp_path), stdout=StringIO())
