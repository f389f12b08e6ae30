"""`manage.py track SLUG ROUND`"""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotate.command_line import project_named
from rlhf.trackers.telling import tell


class Command(BaseCommand):
    help = "Tells the trackers named in TRACKERS of a round's runs, as a worker does when they end."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("project", metavar="SLUG")
        parser.add_argument("round", type=int, metavar="ROUND")

    def handle(self, **options: Any) -> None:
        if not settings.TRACKERS:
            raise CommandError("TRACKERS names nobody. See the settings in the README.")
        project = project_named(options["project"])
        round = project.rounds.filter(number=options["round"]).first()
        if round is None:
            raise CommandError(f"{project} has no round {options['round']}.")
        failed = False
        for run in round.runs.select_related("project", "round__base").order_by("position"):
            for tracker, why in tell(run).items():
                self.stdout.write(f"{run}: {tracker}: {why or 'told'}")
                failed = failed or bool(why)
        if failed:
            raise CommandError("Not all was told.")
