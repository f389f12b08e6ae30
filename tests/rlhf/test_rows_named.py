"""Rows that cannot be learnt are named before a round is launched, by rendering all of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from django.test import Client

from annotate.models import Demonstration, Policy, Project, Prompt, User
from rlhf.data.checks import NotReady
from rlhf.learning.models import base as base_model
from rlhf.models import Round
from rlhf.rounds.launch import launch_round
from rlhf.rounds.settings import Launch

ALTERNATING = (
    "{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@pytest.fixture
def real_base(base: Policy, data_dir: Path) -> Policy:
    """A base whose tokenizer is one, and whose chat template has no system and alternates."""
    base_model.prepare("tiny", data_dir / "models/tiny")
    (data_dir / "models/tiny/chat_template.jinja").write_text(ALTERNATING)
    base.folder = "models/tiny"
    base.save()
    return base


@pytest.fixture
def refused_demonstration(prompts: list[Prompt], alice: User) -> Demonstration:
    twice = [{"role": "user", "content": "a"}, {"role": "user", "content": "and?"}]
    prompt = prompts[0]
    prompt.messages = twice
    prompt.save()
    return Demonstration.objects.create(prompt=prompt, labeler=alice, text="yes")


def test_a_row_that_the_template_refuses_stops_the_launch_by_its_name(
    project: Project,
    labels: None,
    real_base: Policy,
    refused_demonstration: Demonstration,
    olga: User,
    browse: Callable[[User], Client],
) -> None:
    launch = Launch(base=real_base, recipe="tiny", stages=("sft",))
    with pytest.raises(NotReady) as refused:
        launch_round(project, launch, by=olga)
    [finding] = refused.value.findings
    assert finding.name == "rows_not_learnable"
    assert f"demonstration {refused_demonstration.pk}: " in finding.message
    assert "roles must alternate" in finding.message
    data = {"base": real_base.pk, "recipe": "tiny", "stages": ["sft"]}
    page = browse(olga).post("/p/cooking/rounds/new/", data)
    assert page.status_code == 422 and "roles must alternate" in page.content.decode()
    assert not Round.objects.exists()
    prompt = refused_demonstration.prompt
    prompt.messages = [{"role": "system", "content": "Be brief."}, *prompt.messages[:1]]
    prompt.save()
    assert launch_round(project, launch, by=olga).number == 1


def test_a_template_that_cannot_be_learnt_stops_the_launch(
    project: Project, labels: None, real_base: Policy, data_dir: Path, olga: User
) -> None:
    template = ALTERNATING.replace("{{ '<|assistant|>' }}", "{{ '<|assistant|><x>' }}")
    (data_dir / "models/tiny/chat_template.jinja").write_text(template)
    with pytest.raises(NotReady, match="without the answer: .*<x>"):
        launch_round(project, Launch(base=real_base, recipe="tiny"), by=olga)
