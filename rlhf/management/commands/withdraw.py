"""`manage.py withdraw USER --project SLUG`"""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from annotate.audit.commands import AuditedCommand
from annotate.audit.recording import about
from annotate.command_line import project_named
from annotate.models import User, Withdrawal
from rlhf.registry.lineage import reach_of


class Command(AuditedCommand):
    help = "Takes a person's data out of training and exports, and names what was made from it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("person", metavar="USER")
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--reason", default="")

    def handle(self, **options: Any) -> None:
        project = project_named(options["project"])
        about(project)
        person = User.objects.filter(username=options["person"]).first()
        if person is None:
            raise CommandError(f"There is no user {options['person']}.")
        Withdrawal.withdraw(project, person=person, by=None, reason=options["reason"])
        reach = reach_of(person, project)
        self.stdout.write(f"Nothing of {person.username} trains a model of {project} any more.")
        for each in reach["snapshots"]:
            self.stdout.write(f"stale: snapshot {each['sha256'][:12]} of round {each['round']}")
        for each in reach["runs"]:
            self.stdout.write(f"stale: {each['kind']} run {each['id']} of round {each['round']}")
        for each in reach["policies"]:
            self.stdout.write(f"stale: policy {each['policy']} ({each['state']})")
