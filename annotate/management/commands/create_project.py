"""`manage.py create_project NAME --operator NAME`"""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db import transaction
from django.utils.text import slugify

from annotate.audit.commands import AuditedCommand
from annotate.people.models import Project, User
from annotate.people.sign_in import login_link
from annotate.projects import begin_project


class Command(AuditedCommand):
    help = "Makes a project with an operator and the base model, and prints their sign-in link."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--operator", required=True, metavar="NAME")
        parser.add_argument("--slug", help="Its part of the addresses; else from the name.")

    @transaction.atomic
    def handle(self, **options: Any) -> None:
        slug = options["slug"] or slugify(options["name"])
        if not slug or slug != slugify(slug):
            raise CommandError("Choose a slug of small letters, digits and hyphens: --slug SLUG.")
        if Project.objects.filter(slug=slug).exists():
            raise CommandError(f"There is a project “{slug}” already. Choose another: --slug SLUG.")
        name, operator = options["name"], options["operator"]
        begin_project(name=name, slug=slug, operator=operator, model=settings.BASE_MODEL)
        self.stdout.write(login_link(User.objects.get(username=operator)))
