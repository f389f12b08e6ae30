"""`manage.py launch_round --project SLUG --recipe tiny|small|large`"""

from dataclasses import replace
from typing import Any

from django.core.management.base import CommandError, CommandParser

from annotate.audit.commands import AuditedCommand
from annotate.audit.recording import about, recorded
from annotate.command_line import operator_of, project_named
from annotate.models import Policy, Project
from rlhf.command_line import policy_named, wait_for
from rlhf.data.checks import NotReady
from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.models.runs import Round
from rlhf.rounds.launch import launch_round
from rlhf.rounds.plan import plan_round
from rlhf.rounds.preflight import Preflight, preflight
from rlhf.rounds.settings import SIZES, Launch
from rlhf.stages import DEFAULT_TRAININGS, TRAININGS


class Command(AuditedCommand):
    by_hand = True
    help = "Launches a round: its trainings and their evaluation, from the labels there are now."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--project", required=True, metavar="SLUG")
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--recipe", choices=SIZES)
        what.add_argument(
            "--like", type=int, metavar="NUMBER", help="With the settings of that round."
        )
        parser.add_argument(
            "--stages",
            type=lambda kinds: kinds.split(","),
            metavar="KIND,KIND",
            help=f"Of {', '.join(TRAININGS)}; else {','.join(DEFAULT_TRAININGS)}, or that round's.",
        )
        parser.add_argument(
            "--base",
            metavar="NAME",
            help="The policy to start from; else the oldest with weights, or that round's.",
        )
        parser.add_argument("--by", metavar="USER", help="Who launches; else the first operator.")
        parser.add_argument("--seed", type=int)
        parser.add_argument("--priority", type=int, default=0, help="The higher, the earlier.")
        parser.add_argument(
            "--on", default="", metavar="HOST[/GPU]", help="The machine, or GPU, that has to do it."
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Say what would run, and launch nothing."
        )
        parser.add_argument("--wait", action="store_true", help="Until it is over; say how it is.")

    def handle(self, **options: Any) -> None:
        project = project_named(options["project"])
        by = operator_of(project, options["by"])
        launch = self._launch(project, options)
        try:
            configs = launch.configs()
        except ConfigError as error:
            raise CommandError(f"The round was not launched. {error}")
        checks = preflight(
            project, launch.base, launch.filters, stages=launch.stages, configs=configs
        )
        for warning in checks.warnings:
            self.stderr.write(f"Warning: {warning.message}")
        if options["dry_run"]:
            return self._say_plan(project, launch, checks)
        try:
            with recorded():
                round = launch_round(project, launch, by=by)
                about(round)
        except NotReady as error:
            reasons = "\n".join(f"- {finding.message}" for finding in error.findings)
            raise CommandError(f"The round was not launched.\n{reasons}")
        self.stdout.write(f"{round} of {project} is launched from {round.base}.")
        if options["wait"]:
            wait_for(round.runs.order_by("position"), self.stdout)

    def _launch(self, project: Project, options: dict[str, Any]) -> Launch:
        """What is chosen here, over that of the round it shall be like."""
        if unknown := set(options["stages"] or ()) - set(TRAININGS):
            raise CommandError(
                f"No stage {', '.join(sorted(unknown))}; known: {', '.join(TRAININGS)}."
            )
        chosen = {name: options[name] for name in ("stages", "seed") if options[name] is not None}
        chosen |= {"priority": options["priority"], "pinned_to": options["on"]}
        if options["base"]:
            chosen["base"] = policy_named(project, options["base"])
        if options["like"] is None:
            return Launch(**{"base": base_of(project), "recipe": options["recipe"], **chosen})
        model = Round.objects.of_project(project).filter(number=options["like"]).first()
        if model is None:
            raise CommandError(f"{project} has no Round {options['like']}.")
        return replace(Launch.like(model), **chosen)

    def _say_plan(self, project: Project, launch: Launch, checks: Preflight) -> None:
        for error in checks.errors:
            self.stderr.write(f"Stops the launch: {error.message}")
        for each in plan_round(project, launch):
            steps = f"{each.steps} steps" if each.steps else "as many steps as the text has"
            self.stdout.write(
                f"{each.name}: from {each.starts_from}; reads {each.reads or 'nothing'}; {steps}."
            )
        counts = checks.counts
        self.stdout.write(
            f"From guests: {counts['guest_demonstrations']} demonstrations,"
            f" {counts['guest_rankings']} rankings,"
            f" {counts['thumbs_up'] + counts['thumbs_down']} thumbs."
        )
        self.stdout.write("Nothing was launched.")


def base_of(project: Project) -> Policy:
    base = project.policies.with_weights().order_by("pk").first()
    if base is None:
        raise CommandError(f"{project} has no policy with a model folder to start from.")
    return base
