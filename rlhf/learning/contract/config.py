"""Config of a run: its kind, its models, its data and the settings of the algorithm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from rlhf.learning.contract.kinds.sft import SFT

from . import kinds
from .hyperparameters import Checked, ConfigError, Data, Engine, Models, Train, Tune, setting

KINDS = tuple(kinds.KINDS)

# Configs of earlier runs are files and rows of a database; they keep the names they were written
# with. Of each kind: the earlier name of a field of `train`, and today's.
RENAMED: dict[str, dict[str, str]] = {
    "ppo": {
        "beta": "kl_coef",
        "lam": "gae_lambda",
        "clip": "clip_range",
        "rest_frozen": "offload_frozen",
    }
}
# Fields of `train` that nothing reads any more.
GONE = {kind: {"bootstrap"} for kind in ("reward", "dpo")}


@dataclass(frozen=True)
class Config(Checked):
    """All that a run is told; one is made by `from_dict` or `load`."""

    kind: str = setting("sft", "What to do.", KINDS)
    train: Train = field(default_factory=SFT, metadata={"help": "The recipe's fields."})
    seed: int = setting(0, "Everything random follows from it.", least=0)
    day: str = setting(
        "",
        "What chat templates that read the clock are told, YYYY-MM-DD; empty = the day on which"
        " the run began.",
    )
    models: Models = field(default_factory=Models, metadata={"help": "Model folders."})
    tune: Tune = field(default_factory=Tune, metadata={"help": "Which weights learn."})
    data: Data = field(default_factory=Data, metadata={"help": "Data files."})
    engine: Engine = field(
        default_factory=Engine, metadata={"help": "PPO, RLOO, GRPO: who answers."}
    )
    code_version: str = setting("", "Version of the code that wrote this config.")

    def validate(self) -> None:
        super().validate()
        for part in (self.train, self.models, self.tune, self.data, self.engine):
            part.validate()
        if not isinstance(self.train, kinds.KINDS[self.kind].settings):
            raise ConfigError(f"kind is {self.kind} but train is {type(self.train).__name__}")
        if self.day and not _is_day(self.day):
            raise ConfigError(f"day must be a date such as 2026-02-03, not {self.day!r}")
        if not self.data.train:
            raise ConfigError("data.train is missing")
        self.train.check_inputs(self.models, self.data, self.tune)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def from_dict(raw: Mapping[str, Any]) -> Config:
    """Reads a config from plain JSON, fields of `train` by today's names or by earlier ones.

    Raises ConfigError that names the first wrong field and what is allowed there."""
    kind = raw.get("kind")
    if kind not in KINDS:
        raise ConfigError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    parts: dict[str, Any] = {**raw}
    train = raw.get("train", {})
    if isinstance(train, Mapping):
        train = current_names(kind, train)
    parts["train"] = kinds.KINDS[kind].settings.read(train, "train")
    classes: dict[str, type[Checked]] = {
        "models": Models, "tune": Tune, "data": Data, "engine": Engine
    }  # fmt: skip
    for name, cls in classes.items():
        parts[name] = cls.read(raw.get(name, {}), name)
    config = Config.read(parts, "config")
    config.validate()
    return config


def current_names(kind: str, train: Mapping[str, Any]) -> dict[str, Any]:
    """Gives settings of a kind with every earlier name of a field replaced by today's, and without
    those that are gone.

    Raises ConfigError where a field is there by both names."""
    renamed = RENAMED.get(kind, {})
    for old in renamed.keys() & train.keys():
        if renamed[old] in train:
            raise ConfigError(f"train.{old} is train.{renamed[old]} today: set one of them")
    gone = GONE.get(kind, set())
    return {renamed.get(name, name): value for name, value in train.items() if name not in gone}


def load(path: Path) -> Config:
    """Reads the config in a JSON file; raises ConfigError that names the file or the field."""
    try:
        raw = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: not a JSON object")
    return from_dict(raw)


def recipe(kind: str, size: str) -> dict[str, Any]:
    """{"train": every field of the kind, "tune": every field}: merge it into a config."""
    recipes = kinds.KINDS[kind].recipes if kind in KINDS else {}
    if size not in recipes:
        raise ConfigError(
            f"no recipe {size!r} for {kind!r}: kinds are {', '.join(KINDS)},"
            " sizes are tiny, small, large"
        )
    chosen = recipes[size]
    train = kinds.KINDS[kind].settings.read(chosen["train"], "train")
    return {"train": asdict(train), "tune": asdict(Tune.read(chosen["tune"], "tune"))}
