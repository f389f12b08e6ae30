"""A published folder as anybody reads it: plain Auto classes, in a process of its own.

`start` forks a process that knows the libraries and nothing else, before there is a model; each
folder is then read by a fork of that one. To import transformers once more would take seconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


@dataclass(frozen=True)
class Reading:
    """What to read, and what to say of `rows` of token ids, padded with `pad` to the right.

    A policy says its logits of the ids `columns` at every token, a reward model (`labels` heads)
    its scores. With `adapter`, `folder` is the base under it."""

    folder: Path
    rows: Sequence[Sequence[int]]
    pad: int
    columns: Sequence[int] = ()
    labels: int = 0
    adapter: Path | None = None
    eager: bool = False


def read(told: Reading) -> list[list[float]]:
    """The numbers of each row, batched, by the folder's own word for what padding is."""
    auto: Any = AutoModelForSequenceClassification if told.labels else AutoModelForCausalLM
    more: dict[str, Any] = {"num_labels": told.labels} if told.labels and told.adapter else {}
    if told.eager:
        more["attn_implementation"] = "eager"
    model = auto.from_pretrained(
        told.folder,
        dtype=torch.float32,
        trust_remote_code=False,
        local_files_only=True,
        **more,
    ).eval()
    if told.adapter:
        from peft import PeftModel

        model.config.get_text_config().pad_token_id = told.pad
        model = PeftModel.from_pretrained(model, told.adapter).eval()
    pad = model.config.get_text_config().pad_token_id if told.labels else told.pad
    ids_BL = torch.full(
        (len(told.rows), max(map(len, told.rows))), told.pad if pad is None else pad
    )
    mask_BL = torch.zeros_like(ids_BL)
    for i, row in enumerate(told.rows):
        ids_BL[i, : len(row)] = torch.tensor(row)
        mask_BL[i, : len(row)] = 1
    with torch.no_grad():
        logits = model(input_ids=ids_BL, attention_mask=mask_BL).logits.float()
    if told.labels:
        scores: list[list[float]] = logits.tolist()
        return scores
    kept = logits[:, :, list(told.columns)]
    return [kept[i, : len(row)].flatten().tolist() for i, row in enumerate(told.rows)]


class _Server:
    """The process that waits to be forked, and the parent's end of the line to it."""

    def __init__(self) -> None:
        mine, its = Pipe()
        # What is in the buffers would be written twice.
        sys.stdout.flush()
        sys.stderr.flush()
        self.owner, self.pid = os.getpid(), os.fork()
        if not self.pid:
            mine.close()
            _serve(its)
        its.close()
        self.line = mine

    def ask(self, told: Reading) -> list[list[float]]:
        self.line.send(told)
        said: list[list[float]] | str = self.line.recv()
        if isinstance(said, str):
            raise Unreadable(said)
        return said


class Unreadable(Exception):
    """Plain classes fail on the folder."""


_server: _Server | None = None


def start() -> None:
    """Forks the waiting process, unless this one has it; best before threads and models."""
    global _server
    if _server is None or _server.owner != os.getpid():
        _server = _Server()


def ask(told: Reading) -> list[list[float]]:
    """What `read` says, in a process of its own; raises Unreadable with the reason where it
    cannot."""
    global _server
    start()
    assert _server is not None
    try:
        return _server.ask(told)
    except (EOFError, OSError):  # somebody has ended it
        _server = None
        start()
        again: _Server = _server  # type: ignore[assignment]
        return again.ask(told)


def _serve(line: Connection) -> None:
    """Waits for folders to read until the parent closes the line or ends."""
    try:
        _close_others(line.fileno())
        _die_with_parent()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the parent finishes what it publishes
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while True:
            told = line.recv()
            _import_what_reads(told)
            child = os.fork()
            if not child:
                _answer(line, told)
            _, status = os.waitpid(child, 0)
            if status:
                line.send(f"the process that read it ended by signal {status & 127}")
    except BaseException:
        os._exit(0)


def _close_others(line: int) -> None:
    """Lets go of files and pipes of the parent's, whose readers would wait for this process to end
    as well."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(nothing, standard)
    most = os.sysconf("SC_OPEN_MAX")
    os.closerange(3, line)
    os.closerange(line + 1, most)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for as long as this lives


def _import_what_reads(told: Reading) -> None:
    """The module of the family, once for all folders of it; no weights."""
    auto: Any = AutoModelForSequenceClassification if told.labels else AutoModelForCausalLM
    with contextlib.suppress(Exception):  # whoever reads the folder says what is wrong with it
        auto._model_mapping[type(AutoConfig.from_pretrained(told.folder))]


def _answer(line: Connection, told: Reading) -> None:
    try:
        _die_with_parent()
        torch.set_num_threads(1)  # a pool of threads does not outlive a fork
        try:
            said: list[list[float]] | str = read(told)
        except Exception as error:
            said = "".join(traceback.format_exception_only(error)).strip()
        line.send(said)
    except BaseException:
        os._exit(1)
    os._exit(0)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
