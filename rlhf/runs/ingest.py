"""Brings what a trainer writes into PostgreSQL while it works: metrics, samples, checkpoints."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from django.conf import settings

from rlhf.learning.contract.manifest import Corrupt, sha256
from rlhf.models.checkpoints import Checkpoint, ensure_whole
from rlhf.models.leases import Lease
from rlhf.models.metrics import Metric, Sample
from rlhf.models.runs import Run
from rlhf.runs.alarms import heard_in, steps_in

logger = logging.getLogger(__name__)

NOT_VALUES = ("step", "split", "time")


class Ingester:
    """Reads a run folder from where it stopped reading. Only whole lines count."""

    def __init__(self, lease: Lease, prompt_of: dict[str, int]) -> None:
        """`prompt_of`: id of a data row → id of its prompt."""
        self.lease = lease
        self.prompt_of = prompt_of
        self._read_until = {"metrics.jsonl": 0, "samples.jsonl": 0}
        self._published: set[str] = set()

    def ingest(self) -> None:
        """Stores what is new; idempotent: if the database refuses or is away, the next call reads
        the same lines."""
        metrics, metrics_end = self._new_rows("metrics.jsonl")
        samples, samples_end = self._new_rows("samples.jsonl")
        checkpoints = {n: digest for n, digest in self._finished() if n not in self._published}
        if not (metrics or samples or checkpoints):
            return
        with self.lease.fenced() as run:
            self._store_metrics(run, metrics)
            self._store_samples(samples)
            self._publish(run, checkpoints)
        self._read_until = {"metrics.jsonl": metrics_end, "samples.jsonl": samples_end}
        self._published |= set(checkpoints)

    def _new_rows(self, name: str) -> tuple[list[dict[str, Any]], int]:
        file, start = self.lease.path / name, self._read_until[name]
        if not file.exists():
            return [], start
        with file.open("rb") as lines:
            lines.seek(start)
            chunk = lines.read()
        # The trainer may be in the middle of a line.
        whole = chunk[: chunk.rfind(b"\n") + 1]
        rows = [json.loads(line, parse_constant=_not_a_number) for line in whole.splitlines()]
        return rows, start + len(whole)

    def _store_metrics(self, run: Run, rows: list[dict[str, Any]]) -> None:
        # A step taken again is written again.
        newest = {(row["split"], row["step"]): row for row in rows}
        Metric.objects.taken_at(run, newest).take_back(run, token=self.lease.token)
        Metric.objects.bulk_create(
            [
                Metric(
                    run=run,
                    lease_token=self.lease.token,
                    step=row["step"],
                    split=row["split"],
                    time=datetime.fromtimestamp(row["time"], UTC),
                    values={k: v for k, v in row.items() if k not in NOT_VALUES},
                )
                for row in newest.values()
            ]
        )
        if rows:
            last = rows[-1]
            total = int(last.get("progress/total_steps") or run.total_steps)
            alarms = heard_in(rows, run.alarms)
            told = {"step": last["step"], "total_steps": total, "alarms": alarms}
            Run.objects.filter(pk=run.pk).update(**told)

    def _store_samples(self, rows: list[dict[str, Any]]) -> None:
        # Of documents there are samples too, and they belong to no prompt.
        known = [row for row in rows if str(row["prompt_id"]) in self.prompt_of]
        newest = {(row["step"], self.prompt_of[str(row["prompt_id"])]): row for row in known}
        Sample.objects.bulk_create(
            [
                Sample(
                    run=self.lease.run,
                    lease_token=self.lease.token,
                    step=step,
                    prompt_id=prompt,
                    text=row["text"].replace("\x00", ""),
                    score=row.get("score"),
                    kl=row.get("kl"),
                )
                for (step, prompt), row in newest.items()
            ],
            update_conflicts=True,
            unique_fields=["run", "step", "prompt"],
            update_fields=["text", "score", "kl", "lease_token"],
        )

    def _finished(self) -> Iterator[tuple[str, str]]:
        """Checkpoints are renamed into place whole; the manifest is written last of all."""
        for folder in sorted(self.lease.path.glob("checkpoints/step-*")):
            # The trainer may remove an old one at any moment.
            with suppress(FileNotFoundError):
                yield folder.name, sha256(folder / "manifest.json")

    def _publish(self, run: Run, checkpoints: dict[str, str]) -> None:
        for name, digest in checkpoints.items():
            Checkpoint.objects.get_or_create(
                run=run,
                folder=f"{self.lease.folder}/checkpoints/{name}",
                defaults={
                    "lease_token": self.lease.token,
                    "step": int(name.removeprefix("step-")),
                    "manifest_sha256": digest,
                },
            )
        if checkpoints:
            # Progress is a checkpoint, not time: only from there does another attempt go on.
            Run.objects.filter(pk=run.pk).update(attempts_without_progress=0)
            forget_removed(run)


def last_checkpoint(run: Run) -> Checkpoint | None:
    """Finds the newest checkpoint that is still as it was published, to the last byte."""
    for checkpoint in run.checkpoints.filter(is_final=False).order_by("-step", "-pk"):
        try:
            ensure_whole(checkpoint)
        except Corrupt as damage:
            logger.warning("%s is passed over: %s", checkpoint, damage)
        else:
            return checkpoint
    return None


def forget_removed(run: Run) -> None:
    """Deletes the rows of checkpoints whose files are gone: the trainer keeps its last few only."""
    for checkpoint in run.checkpoints.filter(is_final=False):
        if not (settings.DATA_DIR / checkpoint.folder / "manifest.json").exists():
            checkpoint.delete()


def rewind(lease: Lease, checkpoint: Checkpoint | None) -> None:
    """Drops what an earlier attempt wrote past the checkpoint this one goes on from."""
    step = checkpoint.step if checkpoint else -1
    with lease.fenced() as run:
        # What is final was written under the number of the last step, whichever that will be.
        run.metrics.past(step).take_back(run, token=lease.token)
        run.samples.filter(step__gt=step).delete()
        run.checkpoints.filter(step__gt=step, is_final=False).delete()
        alarms = steps_in(run.metrics.steps_by_name()) if run.alarms else {}
        Run.objects.filter(pk=run.pk).update(step=max(step, 0), alarms=alarms)
    # What a trainer was writing when it was killed; each attempt has a folder of its own.
    for half_written in ("t*/tmp-*", "t*/checkpoints/tmp-*"):
        for leftover in lease.path.parent.glob(half_written):
            shutil.rmtree(leftover, ignore_errors=True)


def _not_a_number(_name: str) -> None:
    """PostgreSQL's JSON has no NaN and no Infinity."""
