"""What a run reads and leaves behind, and the three ways it ends.

config.json       here or one folder up        metrics.jsonl   a line a step and split
checkpoints/      see checkpoint.py            samples.jsonl   answers to fixed prompts
model/            the published folder         outcome.json    how it ended
epochs/N/         the same, after N epochs     log.txt         warnings, and why it failed
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from rlhf.learning.contract import config
from rlhf.learning.contract.manifest import Corrupt, sha256, sync, verify
from rlhf.learning.contract.records import DataError
from rlhf.learning.contract.sharing import group_id, share

from .card import descent_of, model_card

DONE, STOPPED, PAUSED, FAILED = 0, 3, 4, 1
TIME_FIELDS = ("time", "speed/", "memory/", "seconds/")


class Paused(Exception):
    """A guard stopped the run for a reason with a name; a person decides what comes next."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class StopAsked(Exception):
    """SIGTERM: the checkpoint is written."""


class RunFolder:
    def __init__(
        self,
        path: Path,
        data_dir: Path | None = None,
        *,
        writes: bool = True,
        allows_code: bool = False,
        allows_changes: bool = False,
    ) -> None:
        """`allows_code`: the config may name a function of the user's, which is then run.
        `allows_changes`: a run may go on from a checkpoint of another config or other data."""
        self.allows_code, self.allows_changes = allows_code, allows_changes
        self.follows_from: dict[str, Any] = {}  # see provenance.py
        self.path = path
        self.data_dir = data_dir or Path(os.environ.get("DATA_DIR", "."))
        self.writes = writes
        self.total_steps = 0
        self.measured: dict[str, dict[str, Any]] = {}  # each split's last row, without its times
        group_id()  # a wrong one is named now, and not after the training
        inside, above = path / "config.json", path.parent / "config.json"
        told = config.load(inside if inside.exists() or not above.exists() else above)
        self.config = replace(told, day=told.day or self._first_day())

    def _first_day(self) -> str:
        """The day on which the run began, which its templates are told for as long as it goes."""
        try:
            known = json.loads((self.path / "provenance.json").read_text())["config"]["day"]
        except (OSError, ValueError, KeyError):
            known = ""
        return known or date.today().isoformat()

    def resolve(self, name: str) -> Path:
        """A path of the config: absolute, or relative to the data directory."""
        return self.data_dir / name

    def data(self, name: str) -> Path:
        """A data file of the config, its hash checked when the config states one."""
        path = self.resolve(getattr(self.config.data, name))
        stated = self.config.data.sha256
        expected = stated.get(name) if isinstance(stated, dict) else stated * (name == "train")
        if expected and path.is_file() and sha256(path) != expected:
            raise DataError(f"{path.name}: the content is not what the config's sha256 says")
        return path

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        return self.path / "model"

    def metrics(self, step: int, split: str, numbers: Mapping[str, float]) -> None:
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        row = {
            "step": step,
            "split": split,
            "time": time.time(),
            "progress/total_steps": self.total_steps,
            **{name: float(value) for name, value in numbers.items()},
            "memory/peak_rss_mb": round(peak_mb),
        }
        self.measured[split] = {
            name: value for name, value in row.items() if not name.startswith(TIME_FIELDS)
        }
        self._append("metrics.jsonl", row)

    def sample(
        self, step: int, prompt_id: str, text: str, score: float | None, kl: float | None
    ) -> None:
        self._append(
            "samples.jsonl",
            {"step": step, "prompt_id": prompt_id, "text": text, "score": score, "kl": kl},
        )

    def say(self, line: str) -> None:
        if self.writes:
            print(line, file=sys.stderr, flush=True)
            self._log(line)

    def begin(self) -> None:
        """Forget how an earlier attempt in this folder ended, and what it left half written."""
        if self.writes:
            (self.path / "outcome.json").unlink(missing_ok=True)
            for leftover in self.path.glob("tmp-*"):
                shutil.rmtree(leftover, ignore_errors=True)

    def outcome(self, state: str, **more: Any) -> None:
        if self.writes:
            self._write_outcome({"state": state, **more})

    def failure(self, said: str, state: str, **more: Any) -> None:
        """How it ended for this process, whichever of several it is.

        The others lose it and fail in turn, later and with less to say: the first one's outcome
        stays, unless only a later one has a `reason`."""
        print(said, file=sys.stderr, flush=True)
        # On a full disk the exit code has to say it alone.
        with contextlib.suppress(OSError):
            self._log(said)
            earlier = self._outcome()
            if not earlier or "reason" in more and "reason" not in earlier:
                self._write_outcome({"state": state, **more})

    def _outcome(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.path / "outcome.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    def _write_outcome(self, outcome: Mapping[str, Any]) -> None:
        writing = self.path / f"outcome.{os.getpid()}.tmp"
        writing.write_text(json.dumps(outcome, indent=1))
        writing.replace(self.path / "outcome.json")

    def _log(self, line: str) -> None:
        with (self.path / "log.txt").open("a", encoding="utf-8") as log:
            log.write(line.rstrip("\n") + "\n")

    def rewind(self, step: int, measured: Mapping[str, dict[str, Any]]) -> None:
        """Forget rows later than the checkpoint a run goes on from: they will be written again.

        `measured` comes from that checkpoint: its rows may be in another folder."""
        self.measured = dict(measured)
        if not self.writes:
            return
        for name in ("metrics.jsonl", "samples.jsonl"):
            path = self.path / name
            if path.exists():
                kept = [
                    line
                    for line in path.read_text(encoding="utf-8").splitlines()
                    if _is_at_most(line, step)
                ]
                writing = path.with_suffix(".tmp")
                writing.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
                writing.replace(path)

    def card(self, title: str) -> str:
        """The model card of what this run learnt."""
        base = self.config.models.policy
        return model_card(
            self.config, title, self.measured, descent_of(self.resolve(base)) if base else {}
        )

    def publish(self, write: Callable[[Path], object], name: str = "model") -> None:
        """The folder of that name is whole or absent."""
        if not self.writes:
            return
        place, writing = self.path / name, self.path / f"tmp-{uuid.uuid4().hex}"
        place.parent.mkdir(exist_ok=True)
        writing.mkdir()
        try:
            write(writing)
            if place.exists():
                shutil.rmtree(place)
            writing.rename(place)
            share(place)
            for changed in {place.parent, self.path}:
                sync(changed)
        finally:
            shutil.rmtree(writing, ignore_errors=True)

    def adopt(self, attempt: Path, name: str) -> None:
        """What another attempt published before the checkpoint that this one goes on from."""
        source = attempt / name
        if not self.writes or (self.path / name).exists():
            return
        try:
            verify(source)
        except Corrupt as damage:
            self.say(f"{source} is lost: {damage}")
        else:
            copied = partial(shutil.copytree, source, copy_function=_link, dirs_exist_ok=True)
            self.publish(copied, name)

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        if self.writes:
            with (self.path / name).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def _link(source: str, place: str) -> None:
    """It is never written again, so one copy on the disk will do, where the disk is the same."""
    try:
        os.link(source, place)
    except OSError:
        shutil.copy2(source, place)
        sync(Path(place))


def _is_at_most(line: str, step: int) -> bool:
    try:
        row = json.loads(line)
    except ValueError:  # the last line of a run that was killed while writing it
        return False
    return bool(row["step"] <= step and row.get("split") != "final")
