"""What of an erased person lies in runs: samples, the files of run folders, and the logs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

from annotate.erasure import Erased
from annotate.models import Project
from rlhf.models.metrics import Sample
from rlhf.models.runs import Run
from rlhf.registry.lineage import reach_of

SHORTEST_TEXT, SHORTEST_NAME = 6, 4  # characters; shorter ones would be found everywhere


def erase_from_runs(erased: Erased) -> None:
    """Deletes samples of their prompts, and overwrites their words in the frozen data of runs and
    in logs. Adds to the report which snapshots, runs and policies were made of their data."""
    for project in erased.projects:
        reach = reach_of(erased.person, project)
        for each in reach["snapshots"]:
            erased.report.append(
                f"{project.slug}: snapshot {each['sha256'][:12]} of {each['kind']} held their data"
            )
        for each in reach["policies"]:
            erased.report.append(
                f"{project.slug}: policy {each['policy']} ({each['state']}) learnt from it"
            )
    Sample.objects.filter(prompt__in=erased.prompts).delete()
    texts = {form for text in erased.texts if len(text) >= SHORTEST_TEXT for form in _forms(text)}
    names = {name.encode() for name in erased.names if len(name) >= SHORTEST_NAME}
    for file in _files("runs", "*.jsonl", "*.txt"):
        if masked := mask(file, texts, set()):
            erased.report.append(f"{file.relative_to(settings.DATA_DIR)}: {masked} places")
    for file in _files("logs", "*"):
        mask(file, texts, names)
    for run in Run.objects.with_log():
        said = run.log_tail.encode()
        if places := _places(said, texts, set()):
            run.remember_log(_overwritten(said, places).decode())
            erased.report.append(f"the log of {run}: {len(places)} places")


def delete_from_runs(project: Project, texts: set[str]) -> None:
    """Overwrites texts of deleted documents in what the runs of the project have read and in what
    they were asked, as for a person who is erased."""
    forms = {form for text in texts if len(text) >= SHORTEST_TEXT for form in _forms(text)}
    for run in Run.objects.filter(project=project):
        for file in _files(run.folder, "*.jsonl", "*.txt") if run.folder and forms else []:
            mask(file, forms, set())


def mask(file: Path, texts: set[bytes], names: set[bytes]) -> int:
    """Overwrites each of the texts, and each of the names as a word, by as many asterisks; returns
    how often. In place: a program may be writing at the end of the file."""
    found = _places(file.read_bytes(), texts, names)
    if found:
        with file.open("r+b") as bytes_of:
            for each in found:
                bytes_of.seek(each.start())
                bytes_of.write(b"*" * len(each.group()))
    return len(found)


def _places(content: bytes, texts: set[bytes], names: set[bytes]) -> list[re.Match[bytes]]:
    parts = [re.escape(text) for text in sorted(texts, key=len, reverse=True)]
    parts += [rb"(?<!\w)" + re.escape(name) + rb"(?!\w)" for name in names]
    return [*re.finditer(b"|".join(parts), content)] if parts else []


def _overwritten(content: bytes, places: list[re.Match[bytes]]) -> bytes:
    found = bytearray(content)
    for each in places:
        found[each.start() : each.end()] = b"*" * len(each.group())
    return bytes(found)


def _forms(text: str) -> Iterator[bytes]:
    """As it stands in a log, and in JSON of either kind."""
    yield text.encode()
    yield json.dumps(text)[1:-1].encode()
    yield json.dumps(text, ensure_ascii=False)[1:-1].encode()


def _files(folder: str, *patterns: str) -> list[Path]:
    place = settings.DATA_DIR / folder
    return [file for each in patterns for file in place.rglob(each) if file.is_file()]
