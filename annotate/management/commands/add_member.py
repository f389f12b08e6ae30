"""`manage.py add_member NAME --project SLUG --role ROLE`"""

from argparse import ArgumentParser
from typing import Any

from annotate.audit.commands import AuditedCommand
from annotate.audit.recording import about
from annotate.command_line import project_named
from annotate.people.models import Membership
from annotate.people.sign_in import login_link


class Command(AuditedCommand):
    help = "Makes a person a member of a project, or changes their role; prints a sign-in link."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--role", required=True, choices=Membership.Role.values)

    def handle(self, **options: Any) -> None:
        project = project_named(options["project"])
        about(project)
        self.stdout.write(login_link(project.admit(name=options["name"], role=options["role"])))
