"""Weights, gradients and Adam's moments spread over the processes, by PyTorch's FSDP2.

Learning runs on a copy of the network whose weights are shards: a layer is gathered while it
computes, and every process has to compute as often as the others. All else (rollouts, held-out
figures, publishing) uses the network itself, which has no weights until `whole` brings them
together for a while; inside, nothing is exchanged, so each process may do as much as it likes.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.models.adapters import blocks


def is_asked(accelerator: Accelerator) -> bool:
    """Does the launcher want shards? Raises ConfigError where it wants what is not done here.

    `accelerate launch` says so by these variables; with torchrun they are set by hand.
    """
    kind = accelerator.distributed_type
    if kind in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise ConfigError(
            f"this trainer does not run under {kind.value}: FSDP2 shards weights, gradients and"
            " Adam's moments too; launch it with deploy/accelerate/sharded.yaml"
        )
    if not _is_on("ACCELERATE_USE_FSDP"):
        return False
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise ConfigError("this trainer shards by FSDP2 alone: set fsdp_version: 2")
    for name in ("OFFLOAD_PARAMS", "ACTIVATION_CHECKPOINTING"):
        if _is_on(f"FSDP_{name}"):
            raise ConfigError(f"this trainer has no fsdp_{name.lower()}: set it to false")
    # Every process reads the weights itself; transformers would leave them out on all but one.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    processes: int = accelerator.num_processes
    return processes > 1


def _is_on(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("true", "1")


class Shards:
    """`module` learns; the network it was made of waits for its weights."""

    def __init__(self, network: nn.Module) -> None:
        self.plain = dict(network.named_parameters())
        for name, weight in self.plain.items():
            if not weight.is_floating_point():
                raise ConfigError(f"{name} is in four bits, which cannot be sharded: choose lora")
        # The copy takes the weights themselves, so that they are never there twice.
        self.module = copy.deepcopy(network, {id(each): each for each in self.plain.values()})
        after_forward = os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower() == "true"
        for model in self.module.modules():
            if isinstance(model, PreTrainedModel) and model.base_model is not model:
                for block in blocks(model):
                    fully_shard(block, reshard_after_forward=after_forward)
        fully_shard(self.module)
        self.shards = dict(self.module.named_parameters())
        self.is_whole = False
        self._empty()

    @property
    def share(self) -> float:
        """How much of all weights this process holds."""
        here = sum(local(each.data).numel() for each in self.shards.values())
        return here / sum(each.numel() for each in self.shards.values())

    @contextmanager
    def whole(self) -> Iterator[None]:
        """The network with all its weights, as they are now, on every process.

        All processes have to enter. Inside a `whole` it changes nothing.
        """
        if self.is_whole:
            yield
            return
        for name, weight in self.plain.items():
            weight.data = gathered(self.shards[name].detach())
        self.is_whole = True
        try:
            yield
        finally:
            self.is_whole = False
            self._empty()

    def _empty(self) -> None:
        for weight in self.plain.values():
            weight.data = weight.data.new_empty(0)


def gathered(tensor: Tensor) -> Tensor:
    """All of it, from all processes' shards; they have to ask together."""
    if not isinstance(tensor, DTensor):
        return tensor
    return tensor.full_tensor()


def part_of(whole: Tensor, like: Tensor) -> Tensor:
    """What this process holds of a tensor that all have; `like` says how it is sharded."""
    whole = whole.to(like.device)
    if not isinstance(like, DTensor):
        return whole
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)


def local(tensor: Tensor) -> Tensor:
    """What of a tensor lies on this process."""
    if not isinstance(tensor, DTensor):
        return tensor
    return tensor.to_local()
