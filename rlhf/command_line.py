"""What the commands about runs share: which policy, and waiting for runs to end."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError, OutputWrapper

from annotate.models import Policy, Project
from rlhf.models.checkpoints import Checkpoint
from rlhf.models.outcomes import TrainedPolicy
from rlhf.models.runs import Run

LOOK_EVERY = 1.0
SAY_WAITING_AFTER = 30.0


def policy_named(project: Project, name: str) -> Policy:
    policy = project.policies.filter(name=name).first()
    if policy is None:
        known = ", ".join(project.policies.values_list("name", flat=True)) or "none yet"
        raise CommandError(f"{project} has no policy “{name}”. Its policies are: {known}.")
    return policy


def trained_folder(policy: Policy) -> tuple[Path, Checkpoint]:
    """The published folder of a policy that was trained here; raises CommandError of another, and
    where its files were removed."""
    training = TrainedPolicy.objects.of(policy)
    if training is None:
        raise CommandError(f"{policy} was not trained here: there is nothing of ours to send.")
    folder = settings.DATA_DIR / training.checkpoint.folder
    if not folder.is_dir():
        raise CommandError(f"{training.checkpoint.folder} is no longer in DATA_DIR.")
    return folder, training.checkpoint


def wait_for(runs: Iterable[Run], out: OutputWrapper) -> None:
    """Says how the runs get on until they are over. Raises CommandError if one did not succeed."""
    for run in runs:
        _follow(run, out)
        if run.state != Run.State.SUCCEEDED:
            tail = f"\n{run.log_tail}" if run.log_tail else ""
            raise CommandError(
                f"{run} {run.get_state_display()}: {run.reason or 'no reason given'}{tail}"
            )


def _follow(run: Run, out: OutputWrapper) -> None:
    said, started = "", time.monotonic()
    while not run.stands_still:
        line = f"{run}: {run.get_state_display()}"
        if run.state == Run.State.RUNNING and run.total_steps:
            line += f", step {run.step} of {run.total_steps}"
        elif run.state == Run.State.QUEUED and time.monotonic() - started > SAY_WAITING_AFTER:
            line += "; is a worker up? (python manage.py work train)"
        if line != said:
            out.write(line)
            said = line
        time.sleep(LOOK_EVERY)
        run.refresh_from_db()
    seconds = f" after {run.seconds:.0f} s" if run.seconds is not None else ""
    out.write(f"{run}: {run.get_state_display()}{seconds}")
