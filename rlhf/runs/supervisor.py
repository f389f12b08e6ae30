"""Sees a claimed run through: data, trainer, metrics, cancel, and how it ended."""

from __future__ import annotations

import errno
import json
import logging
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

from django.conf import settings
from django.db import close_old_connections

from feedback_site.bell import enqueue_on_commit
from rlhf.models.leases import DATABASE_AWAY, Heart, Lease, beating
from rlhf.models.runs import LeaseLost, Run
from rlhf.runs import trainer_process as launcher
from rlhf.runs.ingest import Ingester, last_checkpoint, rewind
from rlhf.stages import ask_others, conclude, examine, needs_trainer, prepare
from rlhf.stages.stage import NothingToDo, Unusable

logger = logging.getLogger(__name__)

# Seconds between two looks at the trainer: so old are a page's figures at most.
LOOK_EVERY = 0.5
# Without a new checkpoint in between. One may be the host's fault, three are the run's.
MOST_ATTEMPTS = 3
# How long a trainer may take to write its checkpoint: a person waits for a cancel, a host for a
# worker that leaves.
CANCEL_GRACE, LEAVE_GRACE = 8.0, 24.0

DONE, STOPPED, PAUSED = 0, 3, 4
# torchrun and `accelerate launch` exit with 1, whatever the trainer's code was; its outcome says
# more. They also stop the other processes when one has failed: that is an attempt that counts.
CODES = {"stopped": -signal.SIGTERM, "paused": PAUSED}

# Rows may have to be halved twice; a rate more than twice too high is for a person to see.
SECOND_CHANCES = {"out_of_memory": 2, "not_finite": 1}


def supervise(lease: Lease, leaving: Event) -> None:
    """Sees a run through, from the claim to its end, or until `leaving` is set or the lease is
    lost."""
    try:
        with beating(lease) as heart:
            _carry_out(lease, heart, leaving)
    except LeaseLost as lost:
        logger.warning("%s: %s", lease.run, lost)
    except DATABASE_AWAY as error:
        logger.warning("%s is left to whoever sees the database again: %s", lease.run, error)
    except Unusable as reason:
        _end(lease, Run.fail, reason=str(reason))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            _fail_with_traceback(lease)
            raise
        _end(lease, Run.pause, reason="disk full", log_tail=str(error))
    except Exception:
        _fail_with_traceback(lease)
        raise


def _carry_out(lease: Lease, heart: Heart, leaving: Event) -> None:
    run = lease.run
    logger.info("%s: attempt %s", run, lease.token)
    if run.cancel_requested:
        return _end(lease, Run.cancel)
    if run.attempts_without_progress > MOST_ATTEMPTS:
        return _quarantine(lease)
    lease.path.mkdir(parents=True, exist_ok=True)
    try:
        config = prepare(lease)
    except NothingToDo as reason:
        return _succeed(lease, {"note": str(reason)})
    (lease.path / "config.json").write_text(json.dumps(config, indent=1))
    code = _train(lease, config, heart, leaving) if needs_trainer(lease, config) else DONE

    def is_over() -> bool:
        return heart.lost.is_set() or heart.cancel_requested.is_set() or leaving.is_set()

    if code == DONE and not ask_others(lease, is_over=is_over):
        code = STOPPED
    if heart.lost.is_set():
        raise LeaseLost("the heartbeat was refused")
    _patiently(lambda: _conclude(lease, code, heart, leaving), heart, leaving)


def _train(lease: Lease, config: dict[str, Any], heart: Heart, leaving: Event) -> int:
    """The exit code of a trainer, once all that it wrote is stored."""
    run = lease.run
    # Figures past the checkpoint belong to steps that will be taken again.
    checkpoint = last_checkpoint(run)
    rewind(lease, checkpoint)
    resume = settings.DATA_DIR / checkpoint.folder if checkpoint else None
    trainer = launcher.start(lease.path, resume=resume, is_changed=bool(run.retries))
    # At once, from the heart's own thread: somebody else may be starting the same run.
    heart.when_lost = trainer.kill
    ingester = Ingester(lease, _prompts_of(config["data"]))
    try:
        code = _watch(trainer, ingester, heart, leaving)
    finally:
        trainer.kill()
    # Once more after the trainer has gone: its last lines came after the last look.
    _patiently(ingester.ingest, heart, leaving)
    return code


def _watch(trainer: launcher.Trainer, ingester: Ingester, heart: Heart, leaving: Event) -> int:
    """The trainer's exit code. Meanwhile its rows go to the database, and a wish to stop to it."""
    give_up_at: float | None = None
    while (code := trainer.wait(LOOK_EVERY)) is None:
        if heart.lost.is_set():
            raise LeaseLost("the heartbeat was refused")
        try:
            ingester.ingest()
        except DATABASE_AWAY as error:
            logger.warning("cannot store what the trainer writes yet: %s", error)
            close_old_connections()
        # Asked once, then only waited for; a second wish must not make the grace begin anew.
        if give_up_at is None and (heart.cancel_requested.is_set() or leaving.is_set()):
            trainer.ask_to_stop()
            grace = CANCEL_GRACE if heart.cancel_requested.is_set() else LEAVE_GRACE
            give_up_at = time.monotonic() + grace
        if give_up_at and time.monotonic() > give_up_at:
            trainer.kill()
    return code


def _conclude(lease: Lease, code: int, heart: Heart, leaving: Event) -> None:
    outcome = _outcome(lease.path)
    state = outcome.pop("state", "")
    if code not in (DONE, STOPPED):
        code = CODES.get(state, code)
    log_tail = launcher.last_lines(lease.path)
    if code == DONE:
        outcome = examine(lease, outcome)  # outside the transaction: others may cancel meanwhile
    if code == DONE and not heart.cancel_requested.is_set():
        _succeed(lease, outcome, log_tail)
    # Also when the training was done by then: whoever cancelled does not expect a model.
    elif heart.cancel_requested.is_set():
        _end(lease, Run.cancel)
    elif code == STOPPED or leaving.is_set():
        # A wish of ours, no fault of the run's: the attempt does not count.
        _end(lease, Run.release, attempts_without_progress=0)
    elif code > 0 and (again := _second_chance(lease.run, outcome)):
        _end(lease, Run.retry, **again)
    elif code == PAUSED:
        _end(lease, Run.pause, reason=_why_paused(outcome), log_tail=log_tail)
    elif code > 0:
        reason = outcome.get("error") or _last_line(log_tail) or f"exit code {code}"
        _end(lease, Run.fail, reason=reason, log_tail=log_tail)
    # Killed from outside, by the kernel for its memory above all: that is tried again, not for
    # ever.
    elif lease.run.attempts_without_progress >= MOST_ATTEMPTS and not _progressed(lease):
        _quarantine(lease)
    else:
        logger.warning("the trainer of %s was killed by signal %s", lease.run, -code)
        _end(lease, Run.release, log_tail=log_tail)


def _second_chance(run: Run, outcome: dict[str, Any]) -> dict[str, Any] | None:
    """What to change before trying again, for the two failures that a change may cure.

    With half the rows in memory at once, the effective batch stays what it was."""
    why = outcome.get("reason", "")
    if sum(retry["why"] == why for retry in run.retries) >= SECOND_CHANCES.get(why, 0):
        return None
    train = run.config["train"]
    rows = "micro_batch_size" if "micro_batch_size" in train else "batch_size"
    if why == "out_of_memory":
        changes = {rows: train[rows] // 2} if train[rows] > 1 else {}
    else:
        rates = ("learning_rate", "critic_learning_rate")
        changes = {rate: train[rate] / 2 for rate in rates if rate in train}
    return {"why": why, "changes": changes} if changes else None


def _succeed(lease: Lease, outcome: dict[str, Any], log_tail: str = "") -> None:
    with lease.fenced() as run:
        summary = outcome if "note" in outcome else conclude(lease, outcome)
        run.succeed(token=lease.token, summary=summary, log_tail=log_tail)
        following = Run.objects.next_of(run.round).first() if run.round else None
        if following:
            enqueue_on_commit("train", "rlhf.jobs.train", following.pk)


def _quarantine(lease: Lease) -> None:
    """A run that kills its worker again and again must not keep the others waiting."""
    earlier = sorted(lease.path.parent.glob("t*"), key=lambda folder: int(folder.name[1:]))
    logs = [text for folder in earlier if (text := launcher.last_lines(folder))]
    _end(
        lease,
        Run.fail,
        reason=f"quarantined: {MOST_ATTEMPTS} attempts ended without a new checkpoint",
        log_tail=logs[-1] if logs else "",
    )


def _end(lease: Lease, verb: Callable[..., bool], **fields: Any) -> None:
    # The token is compared in the UPDATE itself, so of two workers one has the last word.
    if not verb(lease.run, token=lease.token, **fields):
        raise LeaseLost(f"{lease.run} belongs to another worker")
    logger.info("%s: %s %s", lease.run, lease.run.state, fields.get("reason", ""))


def _fail_with_traceback(lease: Lease) -> None:
    trace = traceback.format_exc()
    lease.run.fail(token=lease.token, reason=_last_line(trace), log_tail=trace)


def _patiently(act: Callable[[], None], heart: Heart, leaving: Event) -> None:
    """Again and again while the database is away. The trainer's work is done: it must not be lost
    for that."""
    while True:
        try:
            act()
            return
        except DATABASE_AWAY as error:
            close_old_connections()
            if heart.lost.is_set() or leaving.wait(1.0):
                raise
            logger.warning("waiting for the database: %s", error)


def _progressed(lease: Lease) -> bool:
    return Run.objects.get(pk=lease.run.pk).attempts_without_progress == 0


def _prompts_of(data: dict[str, Any]) -> dict[str, int]:
    """Id of a data row → id of its prompt, for what the trainer says about its rows."""
    found = {}
    for name in ("train", "test"):
        if name in data:
            with (settings.DATA_DIR / data[name]).open(encoding="utf-8") as lines:
                for row in map(json.loads, lines):
                    if "prompt_id" in row:
                        found[str(row["id"])] = row["prompt_id"]
    return found


def _outcome(folder: Path) -> dict[str, Any]:
    file = folder / "outcome.json"
    if not file.exists():
        return {}
    outcome: dict[str, Any] = json.loads(file.read_text(), parse_constant=lambda _name: None)
    return outcome


def _why_paused(outcome: dict[str, Any]) -> str:
    reason = outcome.get("reason", "a guard").replace("_", " ")
    return f"{reason}: {outcome['detail']}" if outcome.get("detail") else reason


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:500] if lines else ""
