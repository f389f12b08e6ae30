"""`manage.py sample --project SLUG --policy NAME --k K`"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotate.command_line import operator_of, project_named
from annotate.models import Prompt
from rlhf.command_line import policy_named, wait_for
from rlhf.data.checks import NotReady
from rlhf.data.selection import prompts
from rlhf.rounds.launch import launch_sampling
from rlhf.rounds.report import headline_of


class Command(BaseCommand):
    help = "Lets policies answer prompts K times, and opens the work of ranking the answers."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument(
            "--policy", required=True, action="append", metavar="NAME", help="May be repeated."
        )
        parser.add_argument(
            "--k", type=int, required=True, help="Completions of each prompt by each policy."
        )
        parser.add_argument("--split", choices=Prompt.Split.values, help="Else all prompts.")
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--by", metavar="USER", help="Who asks; else the first operator.")
        parser.add_argument("--wait", action="store_true", help="Until it is over; say how it is.")

    def handle(self, **options: Any) -> None:
        project = project_named(options["project"])
        splits = [options["split"]] if options["split"] else Prompt.Split.values
        try:
            run = launch_sampling(
                project,
                by=operator_of(project, options["by"]),
                policies=[policy_named(project, name) for name in options["policy"]],
                k=options["k"],
                prompts=list(prompts(project).in_split(*splits)),
                seed=options["seed"],
            )
        except NotReady as error:
            raise CommandError(str(error))
        self.stdout.write(f"{run} is launched.")
        if options["wait"]:
            wait_for([run], self.stdout)
            self.stdout.write(headline_of(run))
