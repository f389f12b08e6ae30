"""Rankings that a reward model is confident about, the other way round."""

import pytest
from django.core.exceptions import ValidationError

from annotate.models import Assignment, Completion, Placement, Policy, Ranking, Task
from rlhf.evaluation.doubted import GAP, SUITE, add_probe, ask_second, doubted
from rlhf.models import RewardModel, Run, Suite
from rlhf.models.probes import parse


@pytest.fixture
def scored(project, prompts, base, publish):
    """Two answers to the first prompt: the reward model is sure that `bad` is better."""
    judge = RewardModel.objects.create(project=project, checkpoint=publish(Run.Kind.REWARD))
    run = Run.objects.create(
        project=project, kind=Run.Kind.SAMPLE, config={"reward_model": judge.pk}
    )

    def make(text: str, score: float, prompt=prompts[0]) -> Completion:
        return Completion.objects.create(
            prompt=prompt,
            policy=base,
            text=text,
            source=Completion.Source.SAMPLED,
            score=score,
            sampling={"run": run.pk},
        )

    return make


@pytest.fixture
def task(project, prompts, scored) -> Task:
    made = Task.objects.create(project=project, prompt=prompts[0], kind=Task.Kind.RANK)
    made.completions.set([scored("Boil it (gently).", 0.0), scored("Eat it raw!", GAP + 0.1)])
    return made


def rank(task, labeler, *, bad_first=False, tie=False) -> Ranking:
    good, bad = task.completions.order_by("score")
    work = Assignment.objects.create(
        task=task, labeler=labeler, shown_order=[good.pk, bad.pk], leased_until="2040-01-01T00:00Z"
    )
    places = (1, 1) if tie else (2, 1) if bad_first else (1, 2)
    return Ranking.record(
        assignment=work,
        placements=[
            Placement(completion=each, place=place)
            for each, place in zip((good, bad), places, strict=True)
        ],
    )


def test_a_confident_reward_model_doubts_the_person_who_says_the_opposite(project, task, alice):
    rank(task, alice)
    [found] = doubted(project)
    assert (found.better.text, found.worse.text) == ("Boil it (gently).", "Eat it raw!")
    assert (found.people_for, found.people_against, found.is_settled) == (1, 0, False)
    assert 0.9 < found.chance < 0.92
    assert found.judge == RewardModel.objects.get().name


@pytest.mark.parametrize("said", [{"bad_first": True}, {"tie": True}])
def test_who_agrees_or_ties_is_not_doubted(project, task, alice, said):
    rank(task, alice, **said)
    assert doubted(project) == []


def test_a_reward_model_that_is_not_confident_doubts_nobody(project, task, alice):
    Completion.objects.filter(score__gt=0).update(score=GAP - 0.1)
    rank(task, alice)
    assert doubted(project) == []


def test_scores_of_different_runs_are_not_compared(project, task, alice):
    other = Run.objects.create(project=project, kind=Run.Kind.SAMPLE, config={})
    Completion.objects.filter(score__gt=0).update(sampling={"run": other.pk})
    rank(task, alice)
    assert doubted(project) == []


def test_the_ranking_goes_to_a_second_person_once(project, task, alice, bob):
    rank(task, alice)
    assert Task.objects.closed().filter(pk=task.pk).exists()
    assert ask_second(project) == 1
    task.refresh_from_db()
    assert (task.closed_at, task.overlap) == (None, 2)
    assert ask_second(project) == 0
    rank(task, bob, bad_first=True)
    assert doubted(project) == []  # people don't agree on it


def test_two_people_settle_it_and_make_a_probe_of_it(project, task, alice, bob, prompts):
    rank(task, alice)
    assert not add_probe(project, doubted(project)[0])
    ask_second(project)
    rank(task, bob)
    [found] = doubted(project)
    assert found.is_settled and ask_second(project) == 0
    assert add_probe(project, found) and not add_probe(project, found)
    suite = Suite.objects.get(name=SUITE)
    [probe] = parse(suite.lines)
    assert probe.prompts == (prompts[0].text,)
    assert probe.passes(["Boil it."]) and not probe.passes(["Raw, eat it"])


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "One ↵ and two?"}],
        [{"role": "user", "content": "What should {John|Jane} earn?"}],
        [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "And?"}],
    ],
)
def test_a_prompt_that_fits_on_no_line_makes_no_probe(project, task, alice, messages, prompts):
    rank(task, alice)
    [found] = doubted(project)
    found.prompt.messages = messages
    assert found.probe == ""


def test_a_prompt_of_two_lines_makes_a_probe(project, task, alice, prompts):
    rank(task, alice)
    [found] = doubted(project)
    found.prompt.messages = [{"role": "user", "content": "One\nand two?"}]
    [probe] = parse(found.probe)
    assert probe.prompts == ("One\nand two?",)


def test_the_page_lists_asks_and_makes_probes(client, olga, project, task, alice, bob):
    address = f"/p/{project.slug}/evaluation/doubted/"
    client.force_login(olga)
    assert "No ranking is in doubt" in client.get(address).content.decode()
    rank(task, alice)
    page = client.get(address).content.decode()
    assert (
        "Eat it raw!" in page and "1&nbsp;against&nbsp;0" in page and "Make it a probe" not in page
    )
    client.post(address, {"act": "ask"})
    rank(task, bob)
    assert "Make it a probe" in client.get(address).content.decode()
    [found] = doubted(project)
    pair = {"act": "probe", "better": found.better.pk, "worse": found.worse.pk}
    said = client.post(address, pair, follow=True).content.decode()
    assert "is a probe of the suite" in said
    assert "Nothing was added" in client.post(address, pair, follow=True).content.decode()
    assert Policy.objects.count() == 1


def test_a_check_that_is_nearer_needs_two_texts():
    with pytest.raises(ValidationError, match="needs two texts"):
        parse("Why? => nearer(good)")
