"""`manage.py login_link NAME`"""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.people.models import User
from annotate.people.sign_in import login_link


class Command(BaseCommand):
    help = "Prints a link that signs a person in, once, within three days. One line a name."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("names", nargs="+", metavar="NAME")

    def handle(self, **options: Any) -> None:
        people = User.objects.filter(is_active=True).in_bulk(
            options["names"], field_name="username"
        )
        unknown = [name for name in options["names"] if name not in people]
        if unknown:
            raise CommandError(f"There is no active user called {', '.join(unknown)}.")
        for name in options["names"]:
            self.stdout.write(login_link(people[name]))
