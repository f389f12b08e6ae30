"""The trainer needs the packages of the extra `trainer`, and nothing of the site."""

import os
import subprocess
import sys
import tomllib

from tests.learning.conftest import ROOT, read_rows

# Of everything that the site declares, what the trainer does not.
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ABSENT = ["django", "rest_framework", "psycopg", "rq", "redis", "environ", "httpx", "uvicorn",
          "choix", "pyarrow", "pandas", "datasets", "trl", "gguf", "cryptography"]  # fmt: skip

PROGRAM = f"""
import runpy, sys
for name in {ABSENT!r}:
    sys.modules[name] = None  # importing it fails, and nobody finds it
sys.argv = ["rlhf.learning", *sys.argv[1:]]
runpy.run_module("rlhf.learning", run_name="__main__")
"""


def names(requirements):
    return {each.split("[")[0].split("=")[0].split(">")[0] for each in requirements}


def test_the_extra_names_no_package_of_the_site_alone():
    extra = names(PROJECT["optional-dependencies"]["trainer"])
    assert "torch" in extra and not extra & {"django", "trl", "datasets", "pandas"}


def test_a_run_trains_where_nothing_of_the_site_is_installed(make_run, data_dir):
    run = make_run("sft", train={"epochs": 1})
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(run), "--data-dir", str(data_dir)],
        cwd=ROOT, capture_output=True, text=True, timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (run / "model/model.safetensors").exists() and read_rows(run / "metrics.jsonl")
