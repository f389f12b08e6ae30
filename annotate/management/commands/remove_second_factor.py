"""`manage.py remove_second_factor NAME`"""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from annotate.accounts.mails import tell
from annotate.accounts.second_factor import forget
from annotate.audit.commands import AuditedCommand
from annotate.audit.recording import about
from annotate.people.models import User


class Command(AuditedCommand):
    help = "Removes apps, security keys and recovery codes of somebody who has lost them all."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME")

    def handle(self, **options: Any) -> None:
        person = User.objects.filter(username=options["name"], is_active=True).first()
        if person is None:
            raise CommandError(f"There is no active user called {options['name']}.")
        about(person)
        count = forget(person)
        tell(person, "Its second factor was removed by whoever runs the site.")
        self.stdout.write(f"{count} removed. {person} signs in without a second factor now.")
