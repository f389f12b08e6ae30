"""`manage.py demo --model tiny|smol [--data FOLDER]`"""

import json
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from rlhf.data.checks import NotReady
from rlhf.demo.wheel import SIZES, Wheel, base_folder, new_project


class Command(BaseCommand):
    help = (
        "The whole wheel unattended, with simulated labelers and real training, on the running "
        "stack. The last line is one JSON object with the figures."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--model", choices=SIZES, default="tiny")
        parser.add_argument(
            "--data",
            type=Path,
            metavar="FOLDER",
            help="With demonstrations.jsonl and perhaps completions.jsonl; else the bundled set.",
        )
        parser.add_argument("--seed", type=int, default=0)

    def handle(self, **options: Any) -> None:
        model, folder = options["model"], options["data"]
        if not base_folder(model).is_dir():
            raise CommandError(
                f"There is no base model in {base_folder(model)}. Make it: "
                f"python -m rlhf.learning.models.base {model} {base_folder(model)} "
                "--corpus demo/demonstrations.jsonl"
            )
        if folder and not (folder / "demonstrations.jsonl").is_file():
            raise CommandError(f"There is no demonstrations.jsonl in {folder}.")
        wheel = Wheel(project=new_project(), model=model, out=self.stdout)
        try:
            figures = wheel.turn(folder, seed=options["seed"])
        except NotReady as error:
            raise CommandError(str(error)) from error
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stdout.write(json.dumps(figures, ensure_ascii=False))
