"""Rollout engines: prompts in, answers with their log-probabilities out.

`hf` is the model in training. `vllm` is a vLLM server, spoken to over its OpenAI-compatible API
with token ids in and out; start it with `--logprobs-mode processed_logprobs`, so that what it
reports is at the sampling temperature. Its kernels and precision are not ours: the caller computes
its own log-probabilities of the answers and corrects for the difference.
B answers, T tokens of the longest.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from rlhf.learning.contract.hyperparameters import ConfigError, OnRollouts
from rlhf.learning.contract.hyperparameters import Engine as EngineConfig
from rlhf.learning.contract.records import content_hash
from rlhf.learning.contract.sharing import share
from rlhf.learning.models.adapters import merged

from .sampling import Answer, generate, uniforms

ATTEMPTS, TOGETHER = 4, 64


class EngineError(RuntimeError):
    """The server did not answer as agreed."""


class Generation(NamedTuple):
    """Answers of an engine, padded to the longest: ids, mask, log-probabilities in nats."""

    ids_BT: Tensor
    mask_BT: Tensor
    logprobs_BT: Tensor
    finished_B: Tensor
    values_BT: Tensor | None = None  # of a value head on the sampling network


class Engine(Protocol):
    """Whatever answers the prompts of a rollout."""

    is_exact: bool  # its log-probabilities are those of training

    def refresh(self, version: int, *, pushes: bool) -> None:
        """Answer with the weights as they are now; one process `pushes` them."""

    def generate(self, prompts: Sequence[list[int]], seeds: Sequence[int]) -> Generation: ...


class HFEngine:
    """It samples in the precision of the weights: in fp32 to 2e-5 as they learn, in mixed not."""

    def __init__(
        self,
        lm: PreTrainedModel,
        settings: OnRollouts,
        stops: Sequence[int],
        pad: int,
        value_head: nn.Linear | None = None,
        *,
        is_exact: bool = True,
    ) -> None:
        self.lm, self.settings, self.stops, self.pad = lm, settings, stops, pad
        self.value_head, self.is_exact = value_head, is_exact

    def refresh(self, version: int, *, pushes: bool) -> None:
        return None

    def generate(self, prompts: Sequence[list[int]], seeds: Sequence[int]) -> Generation:
        settings = self.settings
        noise_BT = uniforms(seeds, settings.max_new_tokens)
        with merged(self.lm):
            answers = generate(
                self.lm,
                prompts,
                noise_BT,
                settings.temperature,
                self.stops,
                self.pad,
                self.value_head,
            )
        return padded(answers)


class VLLMEngine:
    """A vLLM server, spoken to over HTTP; raises EngineError where it does not answer as agreed."""

    is_exact = False

    def __init__(
        self,
        engine: EngineConfig,
        settings: OnRollouts,
        stops: Sequence[int],
        weights: AdapterSync | NCCLSync,
    ) -> None:
        self.engine, self.settings, self.stops, self.weights = engine, settings, stops, weights
        self.model, self.version = engine.model, 0  # weights by the optimizer's steps

    def refresh(self, version: int, *, pushes: bool) -> None:
        if version != self.version:
            self.model = self.weights.push(self.version, version, pushes=pushes)
            self.version = version

    def generate(self, prompts: Sequence[list[int]], seeds: Sequence[int]) -> Generation:
        # One request an answer, because a seed belongs to a request; the server batches them.
        with ThreadPoolExecutor(max_workers=min(TOGETHER, len(prompts))) as pool:
            return padded(list(pool.map(self._answer, prompts, seeds)))

    def _answer(self, prompt: list[int], seed: int) -> Answer:
        request = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": self.settings.max_new_tokens,
            "temperature": self.settings.temperature,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "n": 1,
            "seed": seed,
            "logprobs": 0,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            "stop_token_ids": list(self.stops),
            "skip_special_tokens": False,
        }
        reply = ask(self.engine.url, "/v1/completions", request, self.engine.timeout)
        try:
            if (said_by := reply.get("model", self.model)) != self.model:
                raise EngineError(f"{self.engine.url} answered as {said_by}, not as {self.model}")
            (choice,) = reply["choices"]
            ids, logprobs = choice["token_ids"], choice["logprobs"]["token_logprobs"]
            said = [int(token.removeprefix("token_id:")) for token in choice["logprobs"]["tokens"]]
            finished = choice["finish_reason"] == "stop"
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(f"{self.engine.url} answered without {error}") from error
        if not ids or said != ids or len(logprobs) != len(ids):
            raise EngineError(f"{self.engine.url} gave {len(ids)} tokens, {len(logprobs)} logprobs")
        if finished and ids[-1] not in self.stops:
            raise EngineError(f"{self.engine.url} stopped at token {ids[-1]}, which ends no answer")
        return Answer(ids, torch.tensor(logprobs), finished)


def server_of(written: EngineConfig, address: str, begun: Path) -> EngineConfig:
    """The engine of a run whose settings name a vLLM server by its `address` ("" = they do not),
    or that has one `written` in its config; the server must serve `begun`, the policy's folder,
    which is looked up where the config does not name it. Raises ConfigError."""
    if address and written.name == "vllm":
        raise ConfigError("engine and train.vllm_server both name a server: leave one out")
    if address:
        written = EngineConfig("vllm", address.rstrip("/").removesuffix("/v1"))
    if written.name != "vllm" or written.model:
        return written
    try:
        cards = ask(written.url, "/v1/models", None, written.timeout)["data"]
        served = {str(card["id"]): Path(card["root"]) for card in cards if card.get("root")}
    except (EngineError, KeyError, TypeError) as error:
        raise ConfigError(f"{written.url} does not answer as a vLLM server: {error}") from error
    place = begun.resolve()
    for name, root in served.items():
        if root.resolve() == place:
            return replace(written, model=name)
    there = ", ".join(f"{name} ({root})" for name, root in served.items()) or "nothing"
    raise ConfigError(
        f"{written.url} serves {there}, and the run begins with {place}: start it with"
        f" `vllm serve {place} --served-model-name policy --logprobs-mode processed_logprobs`, and"
        " `--enable-lora --max-loras 2` where only an adapter learns"
    )


class AdapterSync:
    """LoRA: the adapter is written beside the run and loaded by name.

    The server runs with `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and sees the same
    files.
    """

    def __init__(self, wrapper: Any, engine: EngineConfig, folder: Path) -> None:
        self.wrapper, self.engine, self.folder = wrapper, engine, folder.absolute()
        # Runs that share a server must not answer with each other's weights.
        self.name = f"{engine.model}-{content_hash(str(self.folder))[:12]}"

    def push(self, old: int, new: int, *, pushes: bool) -> str:
        names = [f"{self.name}-{each}" for each in (old, new)]
        if pushes:
            place, timeout, url = self.folder / str(new), self.engine.timeout, self.engine.url
            self.wrapper.save_pretrained(place, selected_adapters=["default"])
            share(place)
            with contextlib.suppress(EngineError):  # left there by an attempt that was killed
                ask(url, "/v1/unload_lora_adapter", {"lora_name": names[1]}, timeout)
            ask(url, "/v1/load_lora_adapter", {"lora_name": names[1], "lora_path": str(place)},
                 timeout)  # fmt: skip
            if old:
                ask(url, "/v1/unload_lora_adapter", {"lora_name": names[0]}, timeout)
                shutil.rmtree(self.folder / str(old), ignore_errors=True)
        return names[1]


class NCCLSync:
    """All weights, by TRL's client of vLLM's weight transfer.

    The server runs with VLLM_SERVER_DEV_MODE=1 and `--weight-transfer-config
    '{"backend": "nccl"}'`; vllm is installed here too.
    """

    def __init__(self, lm: PreTrainedModel, engine: EngineConfig) -> None:
        if lm.device.type != "cuda":
            raise ConfigError(
                "engine.name vllm takes the weights of a whole model from a CUDA GPU only:"
                " choose Tune.mode lora, or engine.name hf"
            )
        self.lm, self.engine = lm, engine
        self.client: Any = None

    def push(self, old: int, new: int, *, pushes: bool) -> str:
        if pushes:
            if self.client is None:
                from trl.generation.vllm_client import VLLMClient

                self.client = VLLMClient(base_url=self.engine.url)
                self.client.init_communicator(self.lm.device)
            self.client.update_model_params(self.lm)
            self.client.reset_prefix_cache()
        return self.engine.model


def ask(url: str, path: str, body: dict[str, Any] | None, timeout: float) -> dict[str, Any]:
    """JSON in (None: nothing), JSON out; a server that is busy or restarting is asked again a few
    times."""
    sent = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url.rstrip("/") + path, sent, {"Content-Type": "application/json"}
    )
    for attempt in range(ATTEMPTS):
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                text = response.read().decode()
            reply = json.loads(text) if text.startswith("{") else {"message": text}
            return dict(reply)
        except urllib.error.HTTPError as error:
            detail = f"{error.code} {error.read().decode(errors='replace')[:300]}"
            if error.code < 500 or attempt == ATTEMPTS - 1:
                raise EngineError(f"{url}{path}: {detail}") from error
        except (OSError, ValueError) as error:
            if attempt == ATTEMPTS - 1:
                raise EngineError(f"{url}{path}: {error}") from error
        time.sleep(0.2 * 4**attempt)
    raise AssertionError("unreachable")


def padded(answers: Sequence[Answer]) -> Generation:
    """Puts answers into one table, on the CPU, with zeros after their ends."""

    def by_row(rows: list[Tensor]) -> Tensor:
        together: Tensor = pad_sequence(rows, batch_first=True)
        return together.cpu()

    values = [answer.values_T for answer in answers if answer.values_T is not None]
    return Generation(
        by_row([torch.tensor(answer.ids) for answer in answers]),
        by_row([torch.ones(len(answer.ids)) for answer in answers]).bool(),
        by_row([answer.logprobs_T for answer in answers]),
        torch.tensor([answer.finished for answer in answers]),
        by_row(values) if values else None,
    )


def importance(logprobs_BT: Tensor, engine_logprobs_BT: Tensor, cap: float) -> Tensor:
    """min(ours / the engine's, cap): truncated importance weights (arXiv 1802.01561)."""
    return (logprobs_BT - engine_logprobs_BT).clamp(-20, 20).exp().clamp(max=cap)
