"""Do exports larger than what a loader looks at first meet TRL's trainers? Old rows know nothing of
tags, versions and comments, new ones do. Each format is loaded by `datasets.load_dataset` and feeds
SFT, Reward, DPO, KTO, GRPO and RLOO for one step, as it is.

.venv/bin/python -m benchmarks.exports [--rows 20000] [--format jsonl --format csv …]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.empty_site import empty_site

TRAINERS = {
    "SFT": "demonstrations",
    "Reward": "preferences",
    "DPO": "preferences",
    "KTO": "thumbs",
    "GRPO": "prompts",
    "RLOO": "prompts",
}
FED = 50  # rows of each end that a trainer gets, which tokenizes all it gets before its first step
FORMATS = ("jsonl", "csv", "parquet", "data set of jsonl", "data set of csv", "data set of parquet")
NEW = {
    "tags": ["new"],
    "guideline_version": 2,
    "comment": "said later",
    "active_seconds": 9,
    "pasted_share": 0.5,
    "policies": ["b"],
    "finish_reasons": ["stop"],
    "reasons": ["style"],
    "note": "noted later",
    "wanted_answer": "another",
}
OF = {  # what a line of each kind holds, and a new one alone
    "demonstrations": ["tags", "guideline_version", "comment", "active_seconds", "pasted_share"],
    "rankings": ["tags", "guideline_version", "comment", "active_seconds"],
    "thumbs": ["tags", "policies", "finish_reasons", "reasons", "note", "wanted_answer"],
}


def rows(kind: str, count: int) -> Iterator[dict[str, Any]]:
    """The last tenth of them are new."""
    for n in range(count):
        line: dict[str, Any] = {"prompt": f"What is the {kind} number {n}?"}
        text = f"It is the number {n}, no other, said at length. " * 8
        match kind:
            case "demonstrations":
                line |= {"completion": text}
            case "thumbs":
                line |= {"completion": text, "label": n % 3 > 0}
            case _:
                line |= {"completions": [text, f"None of them {n}. " * 20], "ranks": [1, 2]}
                line |= {"strength": 2, "reason": "shorter"} if n >= count * 0.9 else {}
        if n >= count * 0.9:
            line |= {name: NEW[name] for name in OF[kind]}
        yield line


def fill(project: Any, by: Any, count: int) -> None:
    from annotate.exchange.importing import import_labels

    for kind in OF:
        with tempfile.TemporaryFile() as file:
            file.writelines(json.dumps(row).encode() + b"\n" for row in rows(kind, count))
            file.seek(0)
            import_labels(file, project=project, by=by)


def loaded(project: Any, kind: str, format: str, folder: Path, **options: Any) -> Any:
    """All lines of the export as `datasets` reads them, whatever its format; of a table the
    standard layout, which holds texts. `options` are those of the loader."""
    import datasets

    from annotate.exchange.exports.exporting import lines, write_file
    from annotate.exchange.exports.folders import write_folder
    from annotate.exchange.exports.layouts import Arranged

    said = Arranged(lines(project, kind), "standard" if "csv" in format else "conversational")
    suffix = format.rpartition(" ")[2]
    if suffix == format:
        path = folder / f"{kind}.{format}"
        write_file(path, said)
        loader = {"jsonl": "json"}.get(format, format)
        options |= {"data_files": str(path), "split": "train"}
        return datasets.load_dataset(loader, cache_dir=str(folder / "cache"), **options)
    path = folder / f"{kind}-{suffix}"
    write_folder(path, said, title=kind, write_file=write_file, format=suffix)
    splits = datasets.load_dataset(str(path), cache_dir=str(folder / "cache"), **options)
    return datasets.concatenate_datasets(list(splits.values()))


def one_step(name: str, rows: Any, base: Path, out: Path) -> float:
    """The loss of this trainer of TRL after a step on the rows, with settings of its own only for
    size."""
    import transformers
    import trl

    def longest(completions: list[Any], **_: Any) -> list[float]:
        return [float(len(str(each))) for each in completions]

    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    settings: dict[str, Any] = {
        "output_dir": str(out),
        "max_steps": 1,
        "per_device_train_batch_size": 2,
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    more: dict[str, Any] = {}
    if name in ("GRPO", "RLOO"):
        settings |= {"num_generations": 2, "max_completion_length": 8}
        more = {"reward_funcs": longest}
    else:
        settings["max_length"] = 512
    sort = "SequenceClassification" if name == "Reward" else "CausalLM"
    labels = {"num_labels": 1} if name == "Reward" else {}
    model = getattr(transformers, f"AutoModelFor{sort}").from_pretrained(base, **labels)
    trainer = getattr(trl, f"{name}Trainer")(
        model=model,
        args=getattr(trl, f"{name}Config")(**settings),
        train_dataset=rows,
        processing_class=tokenizer,
        **more,
    )
    return float(trainer.train().training_loss)


def measured(project: Any, base: Path, folder: Path, format: str) -> Iterator[dict[str, Any]]:
    """What became of each trainer."""
    folder.mkdir()
    for name, kind in TRAINERS.items():
        place = folder / name.lower()
        place.mkdir()
        found = loaded(project, kind, format, place)
        exported = [path for path in place.rglob("*") if not path.is_relative_to(place / "cache")]
        began = time.monotonic()
        ends = [*range(FED), *range(len(found) - FED, len(found))]
        loss = one_step(name, found.select(ends), base, place / "run")
        yield {
            "format": format,
            "trainer": name,
            "rows": len(found),
            "mb": round(sum(path.stat().st_size for path in exported) / 1e6, 1),
            "loss": round(loss, 4),
            "seconds": round(time.monotonic() - began, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--format", action="append", choices=FORMATS)
    arguments = parser.parse_args()

    with empty_site(), tempfile.TemporaryDirectory() as place:
        from annotate.exchange.exports.exporting import lines, write_file
        from annotate.models import Project
        from rlhf.learning.models import base

        project = Project.objects.create(name="Export", slug="export")
        fill(project, project.admit(name="olga", role="operator"), arguments.rows)
        write_file(Path(place, "corpus.jsonl"), lines(project, "thumbs"))
        base.prepare("tiny", Path(place, "base"), Path(place, "corpus.jsonl"))
        for number, format in enumerate(arguments.format or FORMATS):
            folder = Path(place, str(number))
            for found in measured(project, Path(place, "base"), folder, format):
                print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
