"""How a run says that it failed, and why."""

import json
from unittest.mock import Mock

import pytest
import torch

from rlhf.learning.__main__ import run
from rlhf.learning.run.run_folder import FAILED, RunFolder
from tests.learning.conftest import learn

OOM = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80.00 GiB")
OWN, OF_A_PEER = ValueError("this row is broken"), RuntimeError("Connection closed by peer")


@pytest.mark.parametrize(
    ("failures", "error", "reason"),
    [
        ([(False, OOM), (True, OF_A_PEER)], "OutOfMemoryError", "out_of_memory"),
        ([(False, OWN), (True, OF_A_PEER)], "ValueError", None),
        ([(True, OF_A_PEER), (False, OOM)], "OutOfMemoryError", "out_of_memory"),
        ([(True, OOM), (False, OF_A_PEER)], "OutOfMemoryError", "out_of_memory"),
    ],
)
def test_of_several_processes_the_one_that_knows_most_says_why_they_failed(
    failures, error, reason, make_run, data_dir, monkeypatch, capsys
):
    folder = make_run("sft")
    processes = [RunFolder(folder, data_dir, writes=writes) for writes, _ in failures]
    monkeypatch.setattr(RunFolder, "begin", lambda _: None)  # all of them have begun
    for process, (_, raised) in zip(processes, failures, strict=True):
        monkeypatch.setattr("rlhf.learning.__main__._learn", Mock(side_effect=raised))
        assert run(process, lambda: False, None) == FAILED
    outcome = json.loads((folder / "outcome.json").read_text())
    assert outcome["state"] == "failed" and outcome["error"].startswith(error)
    assert outcome.get("reason") == reason
    said, log = capsys.readouterr().err, (folder / "log.txt").read_text()
    assert all(str(raised) in said and str(raised) in log for _, raised in failures)


def test_a_run_begins_without_the_end_of_the_attempt_before(make_run, data_dir, monkeypatch):
    folder = make_run("sft")
    (folder / "outcome.json").write_text('{"state": "failed", "reason": "out_of_memory"}')
    (folder / "tmp-1234").mkdir()  # a model that was half published when a kill came
    (folder / "tmp-1234/model.safetensors").write_text("half")
    monkeypatch.setattr("rlhf.learning.__main__._learn", Mock(side_effect=OWN))
    assert learn(folder, data_dir) == FAILED
    outcome = json.loads((folder / "outcome.json").read_text())
    assert outcome == {"state": "failed", "error": "ValueError: this row is broken"}
    assert not list(folder.glob("tmp-*"))
