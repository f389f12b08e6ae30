"""`manage.py launch_round --project SLUG --recipe tiny|small|large`"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotate.management.commands.import_labels import project_named
from annotate.models import Policy, Project
from rlhf.command_line import operator_of, policy_named, wait_for
from rlhf.learning.config import ConfigError
from rlhf.preflight import NotReady, preflight
from rlhf.rounds import SIZES, launch_round


class Command(BaseCommand):
    help = "Launches a round: SFT, reward model, PPO, evaluation, from the labels there are now."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--recipe", required=True, choices=SIZES)
        parser.add_argument(
            "--base", metavar="NAME", help="The policy to start from; else the oldest base model."
        )
        parser.add_argument("--by", metavar="USER", help="Who launches; else the first operator.")
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--priority", type=int, default=0, help="The higher, the earlier.")
        parser.add_argument(
            "--on", default="", metavar="HOST[/GPU]", help="The machine, or GPU, that has to do it."
        )
        parser.add_argument("--wait", action="store_true", help="Until it is over; say how it is.")

    def handle(self, **options: Any) -> None:
        project = project_named(options["project"])
        by = operator_of(project, options["by"])
        base = policy_named(project, options["base"]) if options["base"] else base_of(project)
        for warning in preflight(project, base).warnings:
            self.stderr.write(f"Warning: {warning.message}")
        try:
            round = launch_round(
                project,
                by=by,
                base=base,
                recipe=options["recipe"],
                seed=options["seed"],
                priority=options["priority"],
                pinned_to=options["on"],
            )
        except NotReady as error:
            reasons = "\n".join(f"- {finding.message}" for finding in error.findings)
            raise CommandError(f"The round was not launched.\n{reasons}")
        except ConfigError as error:
            raise CommandError(f"The round was not launched. {error}")
        self.stdout.write(f"{round} of {project} is launched from {base}.")
        if options["wait"]:
            wait_for(round.runs.order_by("position"), self.stdout)


def base_of(project: Project) -> Policy:
    base = project.policies.with_weights().order_by("pk").first()
    if base is None:
        raise CommandError(f"{project} has no policy with a model folder to start from.")
    return base
