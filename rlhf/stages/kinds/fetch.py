"""The download of a model from the Hugging Face hub: a base to train, to sample and to compare."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

from django.conf import settings

from annotate.models import Policy, Project, User
from feedback_site.parent_death import ending_with_parent
from rlhf.learning.contract.hub import source_of
from rlhf.models.leases import Lease
from rlhf.models.runs import Run
from rlhf.stages.stage import SECRETS, Config, Stage, Summary, Unusable

LOOK_EVERY = 0.5
SAID = "fetch.txt"


# A run and no request: it takes minutes, may be cut off, and needs the network that workers have
# and the web may not. As a run it has a queue, a page, a cancel and another attempt.
class Fetch(Stage):
    kind = Run.Kind.FETCH

    def launch(self, project: Project, model: str, *, name: str, by: User | None) -> Run:
        """Queues the download of `model`, OWNER/NAME[@REVISION], as the policy `name`."""
        config = {"model": model, "name": name, "folder": f"models/{model.replace('/', '--')}"}
        return Run.launch(project, kind=self.kind, config=config, by=by)

    def about(self, run: Run) -> str:
        return f"{run.config['model']} as {run.config['name']}"

    def prepare(self, lease: Lease) -> Config:
        return dict(lease.run.config)

    def needs_trainer(self, config: Config) -> bool:
        return False

    def ask_others(self, lease: Lease, *, is_over: Callable[[], bool]) -> bool:
        """Downloads the model, unless another project has done so. What is interrupted is gone on
        with by the next attempt."""
        out = settings.DATA_DIR / lease.run.config["folder"]
        if out.exists():
            return True
        with (lease.path / SAID).open("wb") as said:
            process = subprocess.Popen(
                ending_with_parent(self._command(lease.run), stop_signal=signal.SIGKILL),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                cwd=settings.BASE_DIR,
                env={name: value for name, value in os.environ.items() if name not in SECRETS},
            )
        while (code := _waited(process)) is None:
            if is_over():
                process.kill()
                process.wait()
                return False
        if code:
            lines = (lease.path / SAID).read_text(errors="replace").strip().splitlines()
            raise Unusable(f"It was not downloaded: {lines[-1] if lines else f'exit code {code}'}.")
        return True

    def conclude(self, lease: Lease, outcome: Summary) -> Summary:
        """Makes a policy of the folder."""
        config = lease.run.config
        source = source_of(settings.DATA_DIR / config["folder"])
        revision = source.get("revision", "")
        licence = f", {source['license']}" if source.get("license") else ""
        policy = Policy.objects.create(
            project=lease.run.project,
            name=_free_name(lease.run.project, config["name"]),
            origin=Policy.Origin.BASE,
            folder=config["folder"],
            description=f"{source.get('model', config['model'])} at {revision[:8]}{licence}",
        )
        return {**outcome, "policy": policy.name, "source": source}

    def _command(self, run: Run) -> list[str]:
        out = settings.DATA_DIR / run.config["folder"]
        return [sys.executable, "-m", "rlhf.learning.models.base", run.config["model"], str(out)]


def _waited(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(LOOK_EVERY)
    except subprocess.TimeoutExpired:
        return None


def _free_name(project: Project, name: str) -> str:
    """The name, unless a policy has taken it meanwhile."""
    taken = set(project.policies.values_list("name", flat=True))
    return next(
        each
        for each in (name, *(f"{name}-{number}" for number in range(2, len(taken) + 3)))
        if each not in taken
    )


FETCH = Fetch()
