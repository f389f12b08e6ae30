"""What a release is signed with: by a key of its own here, and verified as a stranger would."""

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="no ssh-keygen here")
SIGN = Path(__file__).resolve().parents[2] / "deploy" / "sign.sh"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    made = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(made)], check=True)
    (tmp_path / "signers").write_text("us " + made.with_suffix(".pub").read_text())
    return made


@pytest.fixture
def release(tmp_path: Path, key: Path) -> Path:
    folder = tmp_path / "dist"
    folder.mkdir()
    for name in ("feedback_site.whl", "CHANGELOG.md"):
        (folder / name).write_text(name)
    subprocess.run([SIGN, folder, key], check=True, capture_output=True)
    return folder


def verifies(release: Path, identity: str = "us") -> bool:
    command = [SIGN, release, "--verify", release.parent / "signers", identity]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_what_was_signed_verifies_and_signed_again_too(release, key):
    assert verifies(release)
    subprocess.run([SIGN, release, key], check=True, capture_output=True)
    assert verifies(release)


def test_another_file_another_sum_and_another_signer_do_not(release):
    assert not verifies(release, "them")
    wheel, sums = release / "feedback_site.whl", release / "SHA256SUMS"
    wheel.write_text("another")
    assert not verifies(release)
    new = subprocess.run(["sha256sum", wheel.name], cwd=release, capture_output=True, text=True)
    sums.write_text(new.stdout)
    assert not verifies(release)
