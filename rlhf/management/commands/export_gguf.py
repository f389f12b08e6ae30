"""`manage.py export_gguf --project SLUG --policy NAME --to FOLDER`"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotate.command_line import project_named
from rlhf.command_line import policy_named, trained_folder


class Command(BaseCommand):
    help = (
        "Writes a trained policy as a GGUF file with an Ollama Modelfile beside it: "
        "ollama create NAME --file FOLDER/Modelfile, or llama-server --model FOLDER/model.gguf."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--policy", required=True, metavar="NAME")
        parser.add_argument("--to", required=True, metavar="FOLDER", type=Path)
        parser.add_argument(
            "--precision", choices=("f32", "f16", "bf16", "q8_0"), default="q8_0",
            help="of the weights; q8_0, the default, is a quarter of f32",
        )  # fmt: skip

    def handle(self, **options: Any) -> None:
        policy = policy_named(project_named(options["project"]), options["policy"])
        folder, _ = trained_folder(policy)
        out = options["to"].absolute()
        # In a process of its own: nothing here knows the learning libraries.
        done = subprocess.run(
            [sys.executable, "-m", "rlhf.learning.publishing.gguf_file", str(folder), str(out),
             "--precision", options["precision"]],
            cwd=settings.BASE_DIR, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise CommandError(f"{policy} was not converted: {said[-1]}")
        self.stdout.write(f"{policy} is in {out}: model.gguf and Modelfile")
