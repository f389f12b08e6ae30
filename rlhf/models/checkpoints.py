"""Model folders that runs publish and save, and whether one is still what was written."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone

from annotate.models import Policy, Project
from rlhf.learning.contract.manifest import Corrupt, sha256, verify
from rlhf.models.runs import LeasedRow, Run


class CheckpointQuerySet(models.QuerySet["Checkpoint"]):
    def published(self) -> CheckpointQuerySet:
        """Keeps what runs were made for, as opposed to what they saved on the way."""
        return self.filter(is_final=True)

    def final(self) -> CheckpointQuerySet:
        """Keeps what runs ended with, without what they published on the way."""
        return self.published().filter(epoch=None)

    def here(self, project: Project) -> CheckpointQuerySet:
        """Keeps a project's published models whose files have not been removed."""
        named = self.select_related("run__round__base", "trained_policy__policy", "reward_model")
        return named.published().filter(run__project=project, removed_at=None)

    def saves(self, project: Project) -> CheckpointQuerySet:
        """Keeps what a project's trainings saved on the way, to go on from."""
        return self.filter(run__project=project, is_final=False).select_related("run")

    def behind(self, policy: Policy) -> Checkpoint | None:
        """Finds the published model with whose weights a policy speaks, be it with a prompt of its
        own."""
        return self.published().filter(folder=policy.folder).first() if policy.folder else None


class Checkpoint(LeasedRow):
    """An immutable folder. One that has no row here does not exist."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="checkpoints")
    step = models.PositiveIntegerField()
    folder = models.CharField(max_length=300, help_text="Relative to DATA_DIR.")
    manifest_sha256 = models.CharField(max_length=64)
    is_final = models.BooleanField(default=False, help_text="A published model, not a save.")
    epoch = models.PositiveSmallIntegerField(
        null=True, help_text="Published on the way, after so many passes over the demonstrations."
    )
    is_kept = models.BooleanField(default=False, help_text="An operator wants its files to stay.")
    removed_at = models.DateTimeField(
        null=True, help_text="When the files of a published model went, to make room."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = CheckpointQuerySet.as_manager()

    class Meta:
        ordering = ["-step"]
        constraints = [
            models.UniqueConstraint(fields=["run", "folder"], name="one_checkpoint_a_folder")
        ]

    def __str__(self) -> str:
        return f"{self.run} at step {self.step}"

    @property
    def name(self) -> str:
        """Names a published model."""
        if hasattr(self, "trained_policy"):
            return str(self.trained_policy.policy)
        return self.reward_model.name if hasattr(self, "reward_model") else f"model {self.pk}"

    def keep(self, *, kept: bool) -> None:
        self.is_kept = kept
        self.save(update_fields=["is_kept"])

    def give_up(self) -> None:
        """Marks its files as removed; whoever spoke with them is known by their words from now
        on."""
        Policy.objects.filter(folder=self.folder).update(folder="")
        self.removed_at = timezone.now()
        self.save(update_fields=["removed_at"])


def ensure_whole(checkpoint: Checkpoint) -> None:
    """Raises Corrupt unless the row vouches for the manifest, and the manifest for every file."""
    folder = settings.DATA_DIR / checkpoint.folder
    if checkpoint.removed_at:
        raise Corrupt(
            f"{checkpoint.folder}: removed to make room, {checkpoint.removed_at:%d %B %Y}"
        )
    try:
        found = sha256(folder / "manifest.json")
    except OSError as error:
        raise Corrupt(f"{checkpoint.folder}: {error.strerror}") from error
    if found != checkpoint.manifest_sha256:
        raise Corrupt(f"{checkpoint.folder}: the manifest is not the one that was published")
    verify(folder)
