"""A frozen network that rests is out of memory, and says the same afterwards."""

import errno
import os

import pytest
import torch

from rlhf.learning.models import networks
from rlhf.learning.models.networks import collate
from rlhf.learning.models.offload import Offloaded
from rlhf.learning.models.render import Encoded

BATCH = collate([Encoded([5, 6, 7], [8, 9], True)], pad=0)


def resident(scratch) -> int:
    """Bytes of files in `scratch` that this process holds in memory."""
    total, ours = 0, False
    with open("/proc/self/smaps") as lines:
        for line in lines:
            first, _, rest = line.partition(" ")
            if not first.endswith(":"):
                ours = str(scratch) in rest
            elif ours and first == "Rss:":
                total += int(rest.split()[0]) << 10
    return total


def test_a_network_at_rest_takes_no_memory_and_wakes_up_as_it_was(policy, tmp_path):
    before = policy(BATCH)[0]
    resting = Offloaded(policy, "cpu", tmp_path)
    weights = sum(each.nbytes for each in policy.parameters())
    assert resident(tmp_path) == 0
    with resting.loaded() as network:
        assert torch.equal(network(BATCH)[0], before)
        assert resident(tmp_path) > weights / 2
    assert resident(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []
    with resting.loaded() as network:
        assert torch.equal(network(BATCH)[0], before)


def test_tied_weights_stay_tied(policy, tmp_path):
    Offloaded(policy, "cpu", tmp_path)
    head = networks.output_head(policy.lm).weight
    assert head is policy.lm.get_input_embeddings().weight


def test_without_scratch_nothing_moves(policy):
    places = [each.data_ptr() for each in policy.parameters()]
    with Offloaded(policy).loaded():
        assert [each.data_ptr() for each in policy.parameters()] == places
    assert not any(each.requires_grad for each in policy.parameters())


def test_a_full_disk_is_named_before_anything_is_written(policy, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        Offloaded(policy, "cpu", tmp_path)
