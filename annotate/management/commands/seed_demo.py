"""`manage.py seed_demo`: something to do on the first day."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import transaction

from annotate.exchange.importing import import_labels
from annotate.labels.kinds.demonstration import open_write_tasks
from annotate.people.models import Membership, Project, User
from annotate.people.sign_in import login_link
from annotate.projects import base_policy

Role = Membership.Role
PEOPLE = {
    "alice": Role.LABELER,
    "bob": Role.LABELER,
    "rita": Role.REVIEWER,
    "olga": Role.OPERATOR,
    "gus": Role.GUEST,
}
BUNDLED = settings.BASE_DIR / "demo" / "demonstrations.jsonl"
GUIDELINE = settings.BASE_DIR / "demo" / "guideline.md"


class Command(BaseCommand):
    help = "Makes the project “Demo” with people, a guideline, a live policy, prompts and work."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--links", action="store_true", help="Print a sign-in link per person.")

    @transaction.atomic
    def handle(self, **options: Any) -> None:
        project, is_new = Project.objects.get_or_create(slug="demo", defaults={"name": "Demo"})
        base_policy(project, settings.BASE_MODEL)
        if is_new:
            furnish(project)
        self.stdout.write(f"{settings.SITE_URL}/p/{project.slug}/ is ready", self.style.NOTICE)
        if options["links"]:
            for person in User.objects.filter(memberships__project=project, username__in=PEOPLE):
                self.stdout.write(f"{person.username:6} {login_link(person)}")


def furnish(project: Project) -> None:
    """Once: afterwards it belongs to the people in it."""
    people = {name: project.admit(name=name, role=role) for name, role in PEOPLE.items()}
    project.publish_guideline(text=GUIDELINE.read_text(encoding="utf-8"), author=people["olga"])
    with BUNDLED.open("rb") as file:
        import_labels(file, project=project, by=people["olga"], kind="prompts")
    open_write_tasks(project, project.prompts.all(), project.overlap, batch="demo")
