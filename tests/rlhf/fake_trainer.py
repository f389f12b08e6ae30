"""Speaks the trainer's process protocol without learning anything: for tests of the supervisor.

    TRAIN_LAUNCHER="python tests/rlhf/fake_trainer.py"

`DATA_DIR/fake_trainer.json` says how it behaves: {"steps", "seconds" a step, "mode"}, where mode is
ok · crash (a traceback) · killed (by a signal of its own) · pause · stopped (by somebody) ·
hang (ignores SIGTERM) · memory, not_finite (until "fits" rows, or that learning rate). "alarms"
names steps at which one rings: {"low_entropy": [2, 5]}. Where epochs are kept, each has two
steps."""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

CHECKPOINT_EVERY = 2


class Stop(Exception):
    pass


class Fake:
    def __init__(self, arguments: list[str]) -> None:
        told = arguments[arguments.index("rlhf.learning") + 1 :]
        print("may have changed" if "--allow-changes" in told else "as it was", flush=True)
        given = iter(each for each in told if each != "--allow-changes")
        self.folder = Path(next(given))
        options = dict(zip(given, given, strict=True))
        self.data_dir = Path(options["--data-dir"])
        self.resume = options.get("--resume")
        self.config = json.loads((self.folder / "config.json").read_text())
        behaviour = self.data_dir / "fake_trainer.json"
        told = json.loads(behaviour.read_text()) if behaviour.exists() else {}
        self.steps, self.seconds = told.get("steps", 6), told.get("seconds", 0.0)
        self.mode = told.get("mode", "ok")
        self.fits = told.get("fits", 0)
        self.alarms = told.get("alarms", {})
        self.stop_asked = False
        self.kept: dict[int, int] = {}

    def run(self) -> int:
        signal.signal(signal.SIGTERM, self._ask)
        print("fake trainer", self.config["kind"], "resumes", self.resume, file=sys.stderr)
        if self.config["kind"] == "sample":
            return self.sample()
        start = json.loads((Path(self.resume) / "state.json").read_text()) if self.resume else 0
        for step in range(2, start + 1):
            self.keep(step)
        for step in range(start + 1, self.steps + 1):
            time.sleep(self.seconds)
            self.metric(step)
            self.keep(step)
            if step % CHECKPOINT_EVERY == 0:
                self.checkpoint(step)
            if step == 3 and self.mode != "ok":
                self.misbehave()
            if self.stop_asked:
                self.checkpoint(step)
                return 3
        self.metric(self.steps, split="final")
        self.publish()
        self.outcome(state="succeeded", steps=self.steps, accuracy=0.75, epochs=self.kept)
        return 0

    def misbehave(self) -> None:
        if self.mode == "crash":
            raise ValueError("the third step went wrong")
        if self.mode == "killed":
            for half_written in ("tmp-model", "checkpoints/tmp-3"):
                (self.folder / half_written).mkdir(parents=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if self.mode == "pause":
            self.outcome(state="paused", reason="disk_full", detail="0 MB are free")
            raise SystemExit(4)
        if self.mode == "stopped":
            self.outcome(state="stopped")
            raise SystemExit(3)
        train = self.config["train"]
        if self.mode == "memory" and train.get("micro_batch_size", train["batch_size"]) > self.fits:
            self.outcome(state="failed", reason="out_of_memory", error="OutOfMemoryError: 80 GB")
            raise SystemExit(1)
        if self.mode == "not_finite" and train["learning_rate"] > self.fits:
            self.outcome(state="paused", reason="not_finite", detail="3 steps in a row")
            raise SystemExit(4)
        if self.mode == "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)

    def _ask(self, *_: object) -> None:
        self.stop_asked = True

    def metric(self, step: int, split: str = "train") -> None:
        row = {"step": step, "split": split, "time": time.time()}
        row |= {"progress/total_steps": self.steps, "loss": 1 / step, "gradient/norm": float("nan")}
        row |= {f"alarm/{name}": 1.0 for name, steps in self.alarms.items() if step in steps}
        self.append("metrics.jsonl", row)
        rows = (self.data_dir / self.config["data"]["train"]).read_text().splitlines()
        shown = {"step": step, "prompt_id": str(json.loads(rows[0])["id"]), "text": f"step {step}"}
        self.append("samples.jsonl", {**shown, "score": 0.1 * step, "kl": 0.01 * step})

    def append(self, name: str, row: dict) -> None:
        with (self.folder / name).open("a") as file:
            file.write(json.dumps(row) + "\n")

    def checkpoint(self, step: int) -> None:
        place = self.folder / f"checkpoints/step-{step:08d}"
        if not place.exists():
            self.whole_folder(place, {"state.json": json.dumps(step)})

    def keep(self, step: int) -> None:
        epoch, inside = divmod(step, 2)
        if self.config["train"].get("keep_epochs") and not inside and step < self.steps:
            self.publish(f"epochs/{epoch}", f"weights of epoch {epoch}")
            self.kept[epoch] = step

    def publish(self, name: str = "model", weights: str = "weights") -> None:
        self.whole_folder(
            self.folder / name,
            {"config.json": "{}", "model.safetensors": weights, "tokenizer.json": "{}"},
        )

    def whole_folder(self, place: Path, files: dict[str, str]) -> None:
        writing = place.parent / f"tmp-{place.name}"
        writing.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (writing / name).write_text(text)
        hashes = {
            name: {"sha256": hashlib.sha256(text.encode()).hexdigest(), "size": len(text.encode())}
            for name, text in files.items()
        }
        (writing / "manifest.json").write_text(json.dumps({"files": hashes}))
        writing.rename(place)

    def sample(self) -> int:
        """The policy whose name sorts last answers best."""
        prompts = (self.data_dir / self.config["data"]["train"]).read_text().splitlines()
        train = self.config["train"]
        (self.folder / "completions.jsonl").unlink(missing_ok=True)
        for name, speaker in self.config["models"]["policies"].items():
            said = {"temperature": speaker["temperature"]}
            said["max_new_tokens"] = speaker.get("max_new_tokens", train["max_new_tokens"])
            for prompt in map(json.loads, prompts):
                for index in range(train["k"]):
                    text = f"{name} says {index} to {prompt['id']}"
                    row = {"id": str(prompt["id"]), "policy": name, "index": index, "text": text}
                    row |= {**said, "seed": index, "finish_reason": "stop", "tokens": 5}
                    if "reward" in self.config["models"]:
                        row["score"] = {"base": 0.0, "r1-sft": 1.0}.get(name, 2.0) + index / 10
                    self.append("completions.jsonl", row)
        self.outcome(state="succeeded", completions=len(prompts))
        return 0

    def outcome(self, **outcome: object) -> None:
        (self.folder / "outcome.json").write_text(json.dumps(outcome))


if __name__ == "__main__":
    sys.exit(Fake(sys.argv).run())
