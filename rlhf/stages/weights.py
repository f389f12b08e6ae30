"""Model folders as stages use them: verified before they are read, and published when made."""

from __future__ import annotations

from django.conf import settings

from annotate.models import Policy
from rlhf.learning.contract.manifest import Corrupt, sha256
from rlhf.models.checkpoints import Checkpoint, ensure_whole
from rlhf.models.leases import Lease
from rlhf.models.runs import Run
from rlhf.stages.stage import Unusable


def weights_of(policy: Policy) -> str:
    """Returns the policy's model folder, relative to DATA_DIR. Of weights that a run here has
    published, every hash is verified: raises Unusable if one differs."""
    made = Checkpoint.objects.behind(policy)
    return verified(made) if made else policy.folder


def verified(checkpoint: Checkpoint) -> str:
    """Returns the folder of a published model whose files are still what was published; raises
    Unusable otherwise."""
    try:
        ensure_whole(checkpoint)
    except Corrupt as damage:
        raise Unusable(
            f"The model of {checkpoint.run} is damaged ({damage}). Bring its folder back from a "
            "backup, then resume the run; or launch a round from another policy."
        ) from damage
    return checkpoint.folder


def publish_model(lease: Lease, *, epoch: int | None = None, step: int = 0) -> Checkpoint:
    """Publishes the run's final model; or what it was after an epoch, at that step."""
    folder = f"{lease.folder}/{f'epochs/{epoch}' if epoch else 'model'}"
    manifest = settings.DATA_DIR / folder / "manifest.json"
    if not manifest.is_file():
        raise FileNotFoundError(f"the trainer ended well but left no {folder}/manifest.json")
    return Checkpoint.objects.create(
        run=lease.run,
        lease_token=lease.token,
        step=step or Run.objects.get(pk=lease.run.pk).step,
        epoch=epoch,
        folder=folder,
        manifest_sha256=sha256(manifest),
        is_final=True,
    )
