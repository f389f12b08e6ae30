import io
import json
from http import HTTPStatus

import pytest
from django.core.management import call_command
from django.db import transaction
from django.urls import reverse

from annotate.models import Demonstration, Placement, Prompt, Ranking
from rlhf.data import resources
from rlhf.data.checks import NotReady
from rlhf.data.counts import count
from rlhf.data.resources import GB
from rlhf.learning.contract.families import refusal
from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.models import Round, Run
from rlhf.rounds.launch import launch_round, launch_sampling
from rlhf.rounds.preflight import preflight, resources_of
from rlhf.rounds.settings import Launch, stage_configs
from rlhf.stages import DEFAULT_TRAININGS
from tests.rlhf.conftest import rank

BOTH = (Demonstration, Ranking)


def names(project, base) -> tuple[set[str], set[str]]:
    found = preflight(project, base)
    return {each.name for each in found.errors}, {each.name for each in found.warnings}


def test_enough_labels_raise_nothing(project, labels, base):
    checks = preflight(project, base)
    assert checks.findings == []
    assert checks.counts == count(project)


def test_a_round_with_no_labels_is_refused_and_nothing_is_queued(project, prompts, base, olga):
    with pytest.raises(NotReady) as refused:
        launch_round(project, Launch(base=base, recipe="tiny"), by=olga)
    told = {finding.name: finding.message for finding in refused.value.findings}
    assert set(told) == {"no_demonstrations", "no_rankings"}
    assert "Let people write some" in told["no_demonstrations"]
    assert "Sample completions" in told["no_rankings"]
    assert not Round.objects.exists() and not Run.objects.exists()


def keep_one_of(labels) -> None:
    labels.exclude(pk=labels.in_split("train").first().pk).update(retracted=True)


def empty(said) -> None:
    said.text = " "
    said.save()


CONTEXT = 200


def placed_in_training() -> Placement:
    return Ranking.objects.in_split("train").first().placements.first()


def copy(row) -> None:
    row.pk = None
    row.save(force_insert=True)


def copy_ranking(ranking) -> None:
    placements = list(ranking.placements.all())
    copy(ranking)
    for each in placements:
        ranking.placements.create(completion=each.completion, place=each.place)


def same_text_as_its_neighbour(placement) -> None:
    worse = placement.ranking.placements.exclude(place=placement.place).first().completion
    worse.text = f" {placement.completion.text}\n"
    worse.save()


def respell(prompt, like) -> None:
    ask(prompt, like.messages[-1]["content"].upper() + "\n ")


def ask(prompt, text) -> None:
    messages = [{"role": "user", "content": text}]
    Prompt.objects.filter(pk=prompt.pk).update(messages=messages, text=text)


# what happens to good labels → (errors, warnings)
CASES = {
    "only held-out labels": (
        lambda: [m.objects.in_split("train").update(retracted=True) for m in BOTH],
        {"no_training_demonstrations", "no_training_rankings"},
        set(),
    ),
    "one row": (
        lambda: [keep_one_of(m.objects.all()) for m in BOTH],
        {"one_demonstration", "one_ranking"},
        {"one_labeler"},
    ),
    "only ties": (lambda: Placement.objects.update(place=1), {"only_ties"}, set()),
    # Below the demonstration of its prompt, an answer that is bad teaches.
    "all bad": (lambda: Ranking.objects.update(outcome="all_bad"), set(), {"one_labeler"}),
    "all bad and nothing better": (
        lambda: (Ranking.objects.update(outcome="all_bad"), Demonstration.objects.all().delete()),
        {"no_rankings", "no_demonstrations"},
        set(),
    ),
    "one labeler": (
        lambda: Ranking.objects.filter(labeler__username="bob").update(retracted=True),
        set(),
        {"one_labeler"},
    ),
    "an empty completion": (
        lambda: empty(Demonstration.objects.in_split("train").first()),
        set(),
        {"empty_completion"},
    ),
    "an empty completion that was ranked": (
        lambda: empty(placed_in_training().completion),
        set(),
        {"empty_ranked_completion"},
    ),
    "demonstrations twice": (
        lambda: copy(Demonstration.objects.in_split("train").first()),
        set(),
        {"duplicate_demonstrations"},
    ),
    "a ranking twice": (
        lambda: copy_ranking(Ranking.objects.in_split("train").first()),
        set(),
        {"duplicate_rankings"},
    ),
    "chosen and rejected": (
        lambda: same_text_as_its_neighbour(placed_in_training()),
        set(),
        {"chosen_is_rejected"},
    ),
    "a test prompt that trains": (
        lambda: respell(Prompt.objects.in_split("train")[0], Prompt.objects.in_split("test")[0]),
        set(),
        {"leaked_test_prompt"},
    ),
    "a prompt of more words than tokens": (
        lambda: ask(Prompt.objects.in_split("train")[0], "why " * CONTEXT),
        {"prompt_over_context"},
        set(),
    ),
    "a prompt of many letters": (
        lambda: ask(Prompt.objects.in_split("train")[0], "lengthy-" * CONTEXT),
        set(),
        {"prompt_near_context"},
    ),
    "a long prompt that is archived": (
        lambda: [
            ask(Prompt.objects.in_split("train")[0], "why " * CONTEXT),
            Prompt.objects.filter(text__startswith="why").archive(),
        ],
        set(),
        set(),
    ),
    "no test split": (
        lambda: Prompt.objects.update(split="train"),
        set(),
        {"no_test_split"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_shortcoming_is_named(project, labels, base, data_dir, case):
    config = {"max_position_embeddings": CONTEXT, "num_hidden_layers": 4}
    (data_dir / base.folder / "config.json").write_text(json.dumps(config))
    spoil, errors, warnings = CASES[case]
    spoil()
    assert names(project, base) == (errors, warnings)


def test_few_labels_warn(project, prompts, base, alice, bob):
    for prompt in prompts[:4]:
        Demonstration.objects.create(prompt=prompt, labeler=alice, text="Cook it")
        rank(prompt, base, bob, places=[1, 2, 2, 3])
    errors, warnings = names(project, base)
    assert errors == set()
    assert warnings == {"few_demonstrations", "few_rankings", "one_labeler"}


def test_a_person_who_contradicts_themselves_is_noticed(project, labels, base, bob, prompts):
    rank(prompts[0], base, bob, places=[2, 2, 1])
    assert names(project, base) == (set(), {"contradictory_comparisons"})


def test_every_finding_says_what_to_do(project, base, labels, bob, prompts):
    """Two sentences at least: what was seen, and what to do about it."""
    for case, (spoil, *_) in CASES.items():
        with transaction.atomic():
            spoil()
            for finding in preflight(project, base).findings:
                assert ". " in finding.message or ": " in finding.message, case
            transaction.set_rollback(True)


def weights(folder, shape: list[int]) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ({"free_disk": 10 * GB}, "too_little_disk"),
        ({"memory_of_this_machine": 10 * GB}, "too_little_memory"),
    ],
)
def test_what_the_machine_cannot_hold_is_said_before(
    project, labels, base, data_dir, monkeypatch, there, found
):
    weights(data_dir / base.folder, [1000, 1000, 1000])
    for what in ("free_disk", "memory_of_this_machine"):
        bytes_there = there.get(what, 1000 * GB)
        monkeypatch.setattr(resources, what, lambda bytes_there=bytes_there: bytes_there)
    checks = preflight(project, base, configs=stage_configs(DEFAULT_TRAININGS, "tiny", {}))
    assert [finding.name for finding in checks.findings] == [found]
    assert "lora" in checks.findings[0].message


@pytest.fixture
def short_of_disk(labels, base, data_dir, monkeypatch) -> None:
    """A billion weights and 10 GB: SFT of all of them writes 52 GB, an adapter 6.4 GB."""
    weights(data_dir / base.folder, [1000, 1000, 1000])
    monkeypatch.setattr(resources, "free_disk", lambda: 10 * GB)
    monkeypatch.setattr(resources, "memory_of_this_machine", lambda: 1000 * GB)


def errors_on(page) -> list[str]:
    return [finding.name for finding in page.context["checks"].errors]


def test_the_page_checks_the_round_as_it_was_changed(project, base, olga, browse, short_of_disk):
    client, wizard = browse(olga), reverse("rounds_new", args=[project.slug])
    said = {"base": base.pk, "recipe": "tiny", "stages": ["sft"]}
    with_adapter = {**said, "sft.tune.mode": "lora"}
    page = client.get(wizard, said)
    assert errors_on(page) == ["too_little_disk"]
    assert " disabled" not in page.text
    assert not errors_on(client.get(wizard, with_adapter))
    assert not errors_on(client.post(wizard, {**with_adapter, "act": "plan"}))
    assert client.post(wizard, with_adapter).status_code == HTTPStatus.FOUND
    assert not errors_on(client.get(wizard, {"like": Round.objects.get().number}))


def test_a_change_that_stops_the_launch_is_named_on_the_page(
    project, labels, base, olga, browse, data_dir
):
    (data_dir / base.folder / "config.json").write_text('{"max_position_embeddings": 200}')
    said = {"base": base.pk, "recipe": "tiny", "stages": ["sft"]}
    client, wizard = browse(olga), reverse("rounds_new", args=[project.slug])
    assert not errors_on(client.get(wizard, said))
    refused = client.post(wizard, {**said, "sft.train.max_new_tokens": 199})
    assert refused.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert errors_on(refused) == ["prompt_over_context"]


def test_a_change_that_is_no_number_is_left_out_of_the_checks(project, labels, base, olga, browse):
    said = {"base": base.pk, "recipe": "tiny", "stages": ["sft"], "sft.train.epochs": "many"}
    page = browse(olga).get(reverse("rounds_new", args=[project.slug]), said)
    assert page.status_code == HTTPStatus.OK and not errors_on(page)


def test_the_command_reports_the_disk_a_round_takes(project, olga, short_of_disk):
    said = io.StringIO()
    command = ["launch_round", "--project", "cooking", "--recipe", "tiny", "--dry-run"]
    call_command(*command, stdout=said, stderr=said)
    assert "Stops the launch: The round writes about" in said.getvalue()


@pytest.mark.parametrize(
    ("kind", "mode", "critic", "memory", "disk"),
    [
        ("sft", "full", "", 16, 52),
        ("reward", "full", "", 16, 52),
        ("ppo", "full", "reward", 28, 100),
        ("ppo", "full", "shared", 16, 52),
        ("ppo", "lora", "policy", 12.8, 8.8),
        ("ppo", "lora", "adapter", 8.4, 6.4),
        ("rloo", "full", "", 16, 52),
        ("rloo", "lora", "", 8.4, 6.4),
        ("grpo", "full", "", 16, 52),
        ("dpo", "full", "", 16, 52),
        ("kto", "full", "", 20, 52),
        ("kto", "lora", "", 4.6, 6.4),
        ("sft", "last_layers", "", 10, 28),
        ("sft", "lora", "", 4.6, 6.4),
        ("sft", "qlora", "", 1.1, 6.4),
    ],
)
def test_what_a_training_takes_is_a_few_bytes_a_parameter(kind, mode, critic, memory, disk):
    told = {"tune": {"mode": mode, "layers": 2}, "train": {"critic": critic}}
    needed = resources_of(10**9, 4, {kind: told, "evaluate": {"train": {}}})
    assert (needed.memory / GB, needed.disk / GB) == pytest.approx((memory, disk))


def test_each_epoch_that_is_kept_takes_the_disk_of_a_model():
    def disk(**train):
        configs = {"sft": {"tune": {"mode": "lora", "layers": 2}, "train": train}}
        return resources_of(10**9, 4, configs).disk / GB

    assert disk(keep_epochs=True, epochs=3) - disk(keep_epochs=False, epochs=3) == 2 * 4


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (lambda folder: (folder / "config.json").write_text("<html>"), "is not JSON"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer is missing"),
        (lambda folder: folder.rename(folder.parent / "gone"), "does not exist"),
    ],
)
def test_a_folder_that_is_no_model_is_refused(project, labels, base, data_dir, spoil, error):
    spoil(data_dir / base.folder)
    [finding] = preflight(project, base).errors
    assert finding.name == "base_not_a_model"
    assert error in finding.message and "safetensors" in finding.message


def test_a_policy_without_weights_cannot_be_a_base(project, labels, base):
    base.folder = ""
    assert names(project, base)[0] == {"base_without_weights"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"sft": {"train": {"learning_rat": 1.0}}}, "unknown field train.learning_rat"),
        ({"ppo": {"train": {"batch_size": 0}}}, "at least 1"),
        ({"reward": {"tune": {"mode": "magic"}}}, "must be one of"),
        ({"sft": {"trian": {}}}, "unknown part"),
    ],
)
def test_a_wrong_field_is_refused(project, labels, base, olga, overrides, message):
    with pytest.raises(ConfigError, match=message):
        launch_round(project, Launch(base=base, recipe="tiny", overrides=overrides), by=olga)
    assert not Round.objects.exists()


def test_an_override_lands_in_its_run_only(project, labels, base, olga):
    overrides = {"sft": {"train": {"epochs": 7}, "tune": {"mode": "lora"}}}
    round = launch_round(project, Launch(base=base, recipe="tiny", overrides=overrides), by=olga)
    configs = {run.kind: run.config for run in round.runs.all()}
    assert configs["sft"]["train"]["epochs"] == 7
    assert configs["sft"]["tune"]["mode"] == "lora"
    assert configs["reward"]["tune"]["mode"] == "full"
    assert configs["evaluate"]["train"]["k"] == 2


def test_rounds_are_numbered_in_their_project(project, labels, base, olga):
    numbers = [
        launch_round(project, Launch(base=base, recipe="tiny"), by=olga).number for _ in range(3)
    ]
    assert numbers == [1, 2, 3]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"policies": []}, "no_policies"),
        ({"prompts": []}, "no_prompts"),
        ({"k": 0}, "bad_k"),
        ({"k": 17}, "bad_k"),
        ({"k": 1}, "one_completion"),
        ({"k": 2, "distil": True}, "not_distillable"),
    ],
)
def test_a_sampling_that_makes_no_sense_is_refused(project, prompts, base, olga, change, name):
    wanted = {"by": olga, "policies": [base], "k": 4, "prompts": prompts, **change}
    with pytest.raises(NotReady) as refused:
        launch_sampling(project, **wanted)
    assert [finding.name for finding in refused.value.findings] == [name]
    assert not Run.objects.exists()


def test_qlora_is_warned_of_before_a_worker_without_a_gpu_takes_it(project, labels, base, olga):
    def told(**modes: str) -> list[str]:
        overrides = {kind: {"tune": {"mode": mode}} for kind, mode in modes.items()}
        configs = stage_configs(DEFAULT_TRAININGS, "tiny", overrides)
        checks = preflight(project, base, configs=configs)
        assert not checks.errors, "some worker may have a GPU"
        return [each.message for each in checks.warnings if each.name == "qlora_needs_cuda"]

    assert told() == told(sft="lora") == []
    (message,) = told(sft="qlora", ppo="qlora")
    assert "(SFT, PPO)" in message and "CUDA GPU" in message and "choose lora" in message


def test_a_dry_run_warns_of_qlora_too(project, labels, base, olga):
    launch_round(
        project,
        Launch(
            base=base, recipe="tiny", stages=["sft"], overrides={"sft": {"tune": {"mode": "qlora"}}}
        ),
        by=olga,
    )
    heard = io.StringIO()
    like = ["--project", "cooking", "--like", "1", "--dry-run"]
    call_command("launch_round", *like, stdout=io.StringIO(), stderr=heard)
    assert "Warning: Mode qlora (SFT) needs a worker with a CUDA GPU" in heard.getvalue()


@pytest.mark.parametrize(
    ("stages", "said"),
    [(("sft", "reward", "ppo"), "it cannot become a reward model"), (("sft", "dpo"), "")],
)
def test_a_family_that_has_no_scalar_head_is_refused_where_one_is_needed(
    project, labels, base, data_dir, stages, said
):
    place = data_dir / base.folder / "config.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "model_type": "mamba"}))
    found = preflight(project, base, stages=stages).errors
    refused = [each.message for each in found if each.name == "family_refused"]
    assert len(refused) == bool(said)
    assert all(said in message for message in refused)


def test_a_family_that_has_no_scalar_head_is_no_critic_of_its_own():
    ppo = {"ppo": {"train": {"critic": "policy"}}}
    assert "cannot be PPO's critic" in refusal({"model_type": "mamba"}, ppo)
    assert refusal({"model_type": "llama"}, {**ppo, "reward": {}}) == ""
