from pathlib import Path

import pytest
from django.core.exceptions import ValidationError

from annotate.chat.inference import InferenceError
from annotate.models import Policy, Project
from rlhf.models import Promotion
from rlhf.registry import promotion
from rlhf.registry.promotion import previous_live, roll_back


@pytest.fixture
def warmed(monkeypatch) -> list[Policy]:
    """The policies that were tried before they went live."""
    tried: list[Policy] = []
    monkeypatch.setattr(promotion, "warm", tried.append)
    return tried


@pytest.fixture
def abc(project: Project) -> list[Policy]:
    return [
        Policy.objects.create(
            project=project, name=name, origin=Policy.Origin.BASE, folder=f"models/{name}"
        )
        for name in "abc"
    ]


def promote(policy: Policy, **decision) -> Promotion:
    """These are about the switch; the gate has tests of its own."""
    return promotion.promote(policy, override="for the test", **decision)


def live(project: Project) -> str | None:
    policy = project.policies.live().first()
    return policy and policy.name


def test_promote_warms_then_flips_and_remembers_why(project, abc, olga, warmed):
    a, b, _ = abc
    promote(a, by=olga, reason="the first")
    made = promote(b, by=olga, reason=" better answers ")
    assert live(project) == "b"
    assert (made.previous, made.reason, made.decided_by) == (a, "better answers", olga)
    assert warmed == [a, b]
    a.refresh_from_db()
    assert a.state == Policy.State.RETIRED


def test_a_policy_does_not_go_live_over_one_it_has_never_met(project, abc, olga, monkeypatch):
    a, b, c = abc
    a.go_live()
    monkeypatch.setattr(promotion, "warm", lambda policy: b.go_live())  # somebody is quicker
    with pytest.raises(ValidationError, match="in the meantime"):
        promote(c, by=olga, reason="better than a")
    assert live(project) == "b" and not Promotion.objects.exists()


def test_roll_back_goes_back_step_by_step(project, abc, olga, warmed):
    for policy in abc:
        promote(policy, by=olga, reason="onwards")
    for expected in ("b", "a"):
        made = roll_back(project, by=olga, reason="guests complained")
        assert live(project) == expected
        assert made.is_rollback
    assert previous_live(project) is None
    with pytest.raises(ValidationError, match="nothing to roll back to"):
        roll_back(project, by=olga, reason="further")


def test_after_a_roll_back_a_promotion_starts_from_there(project, abc, olga, warmed):
    a, b, c = abc
    promote(a, by=olga, reason="1")
    promote(b, by=olga, reason="2")
    roll_back(project, by=olga, reason="3")
    promote(c, by=olga, reason="4")
    assert previous_live(project) == a


def test_the_way_back_leads_to_what_was_live_before_the_first_promotion(project, abc, olga, warmed):
    a, b, _ = abc
    a.go_live()
    promote(b, by=olga, reason="better")
    assert roll_back(project, by=olga, reason="worse").policy == a


@pytest.mark.parametrize("reason", ["", "   "])
def test_a_decision_needs_a_reason(project, abc, olga, warmed, reason):
    with pytest.raises(ValidationError, match="Enter a reason"):
        promote(abc[0], by=olga, reason=reason)
    assert live(project) is None


def test_what_is_live_is_not_promoted_again(project, abc, olga, warmed):
    promote(abc[0], by=olga, reason="1")
    stale = Policy.objects.get(pk=abc[0].pk)
    stale.state = Policy.State.CANDIDATE
    with pytest.raises(ValidationError, match="already live"):
        promote(stale, by=olga, reason="2")
    assert Promotion.objects.count() == 1


def test_a_policy_that_cannot_answer_is_not_promoted(project, abc, olga, monkeypatch):
    def broken(policy: Policy) -> None:
        raise InferenceError("The model server does not answer.")

    monkeypatch.setattr(promotion, "warm", broken)
    with pytest.raises(ValidationError, match="cannot answer. The model server"):
        promote(abc[0], by=olga, reason="1")
    assert live(project) is None and not Promotion.objects.exists()


def test_the_way_back_is_open_even_when_the_server_is_silent(project, abc, olga, monkeypatch):
    a, b, _ = abc
    a.go_live()
    b.go_live()
    Promotion.objects.create(project=project, policy=b, previous=a, reason="1", decided_by=olga)

    def broken(policy: Policy) -> None:
        raise InferenceError("The model server does not answer.")

    monkeypatch.setattr(promotion, "warm", broken)
    roll_back(project, by=olga, reason="it answers nobody")
    assert live(project) == "a"


def test_a_policy_known_only_by_its_words_cannot_go_live(project, abc, olga, warmed):
    abc[0].folder = ""
    with pytest.raises(ValidationError, match="no weights and no endpoint"):
        promote(abc[0], by=olga, reason="1")


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damaged", ["model.safetensors", "manifest.json"])
@pytest.mark.parametrize("act", [promote, promotion.challenge])
def test_a_policy_whose_files_are_not_those_it_was_published_with_is_refused_by_name(
    act, damaged, project, abc, olga, warmed, model, data_dir
):
    promote(abc[0], by=olga, reason="the first")
    flip_a_byte(data_dir / model.folder / damaged)
    with pytest.raises(ValidationError, match=r"The model of r1-ppo is damaged \(.*manifest"):
        act(model.trained_policy.policy, by=olga, reason="better")
    assert (live(project), warmed) == ("a", [abc[0]])
    assert Promotion.objects.count() == 1


def test_a_prompt_of_its_own_saves_no_damaged_model(project, olga, warmed, model, data_dir):
    prompted = project.policies.create(
        name="polite", origin=Policy.Origin.PROMPTED, folder=model.folder, system_prompt="Please."
    )
    flip_a_byte(data_dir / model.folder / "model.safetensors")
    with pytest.raises(ValidationError, match="The model of polite is damaged"):
        promote(prompted, by=olga, reason="polite")
    assert live(project) is None


def test_the_way_back_does_not_lead_to_a_damaged_model(project, abc, olga, warmed, model, data_dir):
    ppo = model.trained_policy.policy
    promote(ppo, by=olga, reason="better")
    promote(abc[0], by=olga, reason="better still")
    flip_a_byte(data_dir / model.folder / "model.safetensors")
    with pytest.raises(ValidationError, match="r1-ppo is damaged"):
        roll_back(project, by=olga, reason="worse after all")
    assert live(project) == "a"


def test_a_whole_model_is_promoted(project, olga, warmed, model):
    promote(model.trained_policy.policy, by=olga, reason="better")
    assert live(project) == "r1-ppo"
