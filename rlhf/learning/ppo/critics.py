"""Where PPO's values come from, and how a critic outlives its run.

`reward` and `policy`: a network of its own. `adapter`: a second adapter on the policy's frozen
weights. `shared`: a head on the policy's trunk, which lets the gradient of the values into it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.contract.kinds.ppo import PPO
from rlhf.learning.contract.manifest import write_manifest
from rlhf.learning.models.adapters import add_adapter, choose_weights
from rlhf.learning.models.folders import CRITIC_SOURCE, is_score, load_score, read_calibration
from rlhf.learning.models.networks import PolicyNetwork
from rlhf.learning.models.render import Renderer
from rlhf.learning.models.tensors import write_tensors
from rlhf.learning.publishing.writing import publish_score
from rlhf.learning.run.run_folder import RunFolder

from .rollout import CRITIC, ActorCritic

WEIGHTS = "critic.safetensors"


def load_critic(
    folder: RunFolder, policy: PolicyNetwork, wrapper: Any, device: torch.device | str
) -> tuple[ActorCritic, Any]:
    """(policy and critic, peft's wrapper of a critic with a network of its own)."""
    settings, models, tune = folder.config.train, folder.config.models, folder.config.tune
    assert isinstance(settings, PPO)
    start = folder.resolve(models.critic) if models.critic else None
    if settings.critic in ("adapter", "shared"):
        if settings.critic == "adapter":
            add_adapter(wrapper, tune, CRITIC)
        model = ActorCritic(policy, None, adapter=settings.critic == "adapter")
        if start:
            _restore(model, start)
        return model, None
    own = models.reward if settings.critic == "reward" else models.policy
    source = start or folder.resolve(own)
    critic = load_score(source, device, tune=tune)
    if is_score(source):
        # It starts in the units of the scores it is going to predict.
        calibration = read_calibration(source)
        scale = calibration.std if settings.normalise_score else 1.0
        critic.head.weight.data /= scale
        critic.bias.data.fill_(calibration.bias / scale)
    critic_wrapper = choose_weights(critic.model, tune)
    critic.bias.requires_grad_(True)
    return ActorCritic(policy, critic), critic_wrapper


def _restore(model: ActorCritic, folder: Path) -> None:
    path = folder / WEIGHTS
    weights = model.critic_weights()
    saved = load_file(path) if path.is_file() else {}
    if saved.keys() != weights.keys():
        raise ConfigError(f"{folder} holds no critic of this kind")
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(saved[name])


def publish_critic(model: ActorCritic, wrapper: Any, render: Renderer, folder: Path) -> None:
    """Writes the critic as a folder from which another PPO can start."""
    folder.mkdir()
    if model.critic is None:
        write_tensors(folder / WEIGHTS, model.critic_weights())
        write_manifest(folder)
        return
    bias = float(model.critic.bias.detach())
    calibration = {"mean": -bias, "std": 1.0, "bias": bias, "source": CRITIC_SOURCE}
    card = "# Critic of a PPO run: what score to expect\n"
    publish_score(model.critic, wrapper, render, folder, card, calibration)
