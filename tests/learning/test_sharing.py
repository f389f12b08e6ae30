"""PUBLISHED_GROUP: what is published, another user's server may read, and nothing else."""

import grp
import os
import stat

import pytest

from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.contract.sharing import GROUP, group_id, share
from rlhf.learning.run.run_folder import DONE, RunFolder
from tests.learning.conftest import learn

GUEST = 65534  # nobody


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def closed(monkeypatch):
    """As under a worker of the site: what is made is for its owner alone."""
    before = os.umask(0o077)
    monkeypatch.setenv(GROUP, grp.getgrgid(os.getegid()).gr_name)
    yield
    os.umask(before)


def test_a_model_is_readable_and_its_surroundings_passable(closed, tmp_path):
    folder = tmp_path / "data/runs/1/t1/model"
    folder.mkdir(parents=True)
    (folder / "adapter").mkdir()
    files = [folder / "model.safetensors", folder / "adapter/adapter_config.json"]
    beside = tmp_path / "data/secret_key"
    for file in (*files, beside):
        file.write_text("x")
    share(folder)
    assert [mode(each) for each in (folder, folder / "adapter")] == [0o750, 0o750]
    assert [mode(each) for each in files] == [0o640, 0o640]
    around = [tmp_path / "data" / each for each in ("", "runs", "runs/1", "runs/1/t1")]
    assert [mode(each) for each in around] == [0o710] * 4
    assert mode(beside) == 0o600


def test_without_the_setting_all_stays_closed(closed, tmp_path, monkeypatch):
    monkeypatch.delenv(GROUP)
    (tmp_path / "model").mkdir()
    share(tmp_path / "model")
    assert mode(tmp_path / "model") == 0o700


def test_a_group_that_is_not_there_is_named_before_the_training(make_run, data_dir, monkeypatch):
    monkeypatch.setenv(GROUP, "no-such-group")
    with pytest.raises(ConfigError, match="no such group: create it"):
        RunFolder(make_run("sft"), data_dir)


def test_a_group_one_is_no_member_of_is_named(monkeypatch):
    other = next(each for each in grp.getgrall() if each.gr_gid not in (os.getegid(), 0))
    monkeypatch.setenv(GROUP, other.gr_name)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getgroups", lambda: [])
    with pytest.raises(ConfigError, match="is no member of it"):
        group_id()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_of_the_group_reads_what_a_run_published(
    make_run, data_dir, tmp_path, monkeypatch
):
    group = next(each for each in grp.getgrall() if each.gr_gid not in (0, GUEST))
    monkeypatch.setenv(GROUP, group.gr_name)
    run = make_run("sft", train={"epochs": 1})
    for each in (tmp_path, run.parent, run):
        each.chmod(0o700)
    before = os.umask(0o077)
    try:
        assert learn(run, data_dir) == DONE
    finally:
        os.umask(before)
    weights, metrics = run / "model/model.safetensors", run / "metrics.jsonl"
    assert reads(weights, group.gr_gid) and not reads(metrics, group.gr_gid)
    assert not reads(weights, GUEST)  # who is not in the group


def reads(path, group):
    """Whether the system's nobody, as a member of that group, can open the file."""
    child = os.fork()
    if not child:
        try:
            os.setgroups([group])
            os.setgid(GUEST)
            os.setuid(GUEST)
            os.close(os.open(path, os.O_RDONLY))
            os._exit(0)
        except OSError:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
