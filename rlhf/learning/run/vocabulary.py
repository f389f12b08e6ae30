"""Whoever reads the token ids of the policy must mean the same tokens by them.

Of a network with another tokenizer they would be as good as noise, and its numbers still look like
numbers. A reward model that only scores is given texts, and may have a tokenizer of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from transformers import AutoTokenizer

from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.contract.kinds.ppo import PPO
from rlhf.learning.contract.manifest import sha256
from rlhf.learning.models.folders import check_folder

from .run_folder import RunFolder

TOKENIZER = "tokenizer.json"


def check_vocabularies(folder: RunFolder) -> None:
    """Raises ConfigError where a reader of the policy's token ids has another tokenizer."""
    policy = folder.resolve(folder.config.models.policy)
    for field, name, advice in _readers(folder):
        place = folder.resolve(name)
        if place != policy and not _mean_the_same(place, policy):
            raise ConfigError(
                f"{field} {name} has another tokenizer than the policy, whose token ids it would"
                f" read: {advice}"
            )


def _readers(folder: RunFolder) -> Iterator[tuple[str, str, str]]:
    """(field of the config, model folder, what else to do)"""
    models, train = folder.config.models, folder.config.train
    if models.reference:
        yield "models.reference", models.reference, "name one that has the policy's tokenizer"
    if isinstance(train, PPO) and train.critic in ("reward", "policy"):
        if models.critic:
            yield "models.critic", models.critic, "name one that has the policy's tokenizer"
        elif train.critic == "reward":
            yield (
                "models.reward",
                models.reward,
                "it may score answers, but PPO.critic cannot start from it; choose policy there",
            )


def _mean_the_same(reader: Path, policy: Path) -> bool:
    """The reader may know tokens more: a reward model has a padding token of its own."""
    check_folder(reader)
    check_folder(policy)
    files = [place / TOKENIZER for place in (reader, policy)]
    if all(file.is_file() for file in files) and sha256(files[0]) == sha256(files[1]):
        return True
    tokens, written = (
        AutoTokenizer.from_pretrained(place, trust_remote_code=False).get_vocab()
        for place in (reader, policy)
    )
    return bool(written.items() <= tokens.items())
