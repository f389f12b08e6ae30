"""A model from a Hugging Face hub, as a folder.

The hub's address is read from `HF_ENDPOINT`, the token for models that want one from `HF_TOKEN`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils import filter_repo_objects

from rlhf.learning.contract.hub import HUB_ID, SOURCE
from rlhf.learning.contract.hyperparameters import ConfigError

# Weights as safetensors and what goes with them, of the top folder alone: neither the same weights
# in other forms nor code.
WANTED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "README.md", "LICENSE*"]
UNWANTED = ["*/*", "consolidated*"]


def download(model: str, out: Path) -> None:
    """Downloads OWNER/NAME[@REVISION] to a folder; what an earlier download left there is gone on
    with. Raises ConfigError with what to do."""
    found = HUB_ID.fullmatch(model)
    if found is None:
        raise ConfigError(f"{model}: a model on the hub is OWNER/NAME or OWNER/NAME@REVISION")
    name, revision = found["name"], found["revision"]
    api = HfApi()
    try:
        info = api.model_info(name, revision=revision, files_metadata=True)
        _check_size(info, model, out)
        snapshot_download(
            name,
            revision=info.sha,
            endpoint=api.endpoint,
            local_dir=out,
            allow_patterns=WANTED,
            ignore_patterns=UNWANTED,
        )
    except GatedRepoError:
        raise ConfigError(
            f"{model} is gated: accept its terms at {api.endpoint}/{name}, and set HF_TOKEN for the"
            " worker"
        ) from None
    except RevisionNotFoundError:
        raise ConfigError(f"{name} has no revision {revision}") from None
    except RepositoryNotFoundError:
        raise ConfigError(
            f"there is no model {name} at {api.endpoint}, or it is private and HF_TOKEN is not set"
        ) from None
    except HFValidationError as error:
        raise ConfigError(f"{model} is not the name of a model: {error}") from None
    except HfHubHTTPError as error:
        raise ConfigError(f"the hub refused: {error}") from None
    except (HTTPError, ConnectionError) as error:
        raise ConfigError(f"the hub {api.endpoint} cannot be reached: {error}") from None
    shutil.rmtree(out / ".cache", ignore_errors=True)
    licence = info.card_data.get("license") if info.card_data else None
    source = {"model": name, "revision": info.sha, "license": licence or ""}
    (out / SOURCE).write_text(json.dumps(source, indent=1))


def _check_size(info: ModelInfo, model: str, out: Path) -> None:
    sizes = {each.rfilename: each.size or 0 for each in info.siblings or []}
    wanted = list(filter_repo_objects(sizes, allow_patterns=WANTED, ignore_patterns=UNWANTED))
    if not any(each.endswith(".safetensors") for each in wanted):
        raise ConfigError(
            f"{model} has no weights as safetensors; look for a copy of it that has them"
        )
    there = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    needed = sum(sizes[each] for each in wanted) - there
    free = shutil.disk_usage(out.parent).free
    if needed > free:
        raise ConfigError(
            f"{model} takes {needed / 1e9:.1f} GB more, and {free / 1e9:.1f} GB are free"
        )
