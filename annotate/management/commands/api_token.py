"""Makes or revokes a token with which a product outside speaks to the API."""

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from annotate.audit.commands import AuditedCommand
from annotate.audit.recording import about
from annotate.command_line import project_named
from annotate.people.models import Project, User
from annotate.people.tokens import ApiToken


class Command(AuditedCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--user", metavar="NAME", help="in whose name it chats and judges")
        parser.add_argument(
            "--scope",
            action="append",
            choices=ApiToken.Scope.values,
            help="what it may do; name several (default: chat and feedback)",
        )
        parser.add_argument("--name", default="", help="to remember what it is for")
        parser.add_argument(
            "--days", type=int, help="expires after this many days (default: never)"
        )
        parser.add_argument("--revoke", metavar="PREFIX", help="revoke the token that begins so")

    def handle(self, *args: Any, **options: Any) -> None:
        project = project_named(options["project"])
        about(project)
        if options["revoke"]:
            return self._revoke(project, options["revoke"])
        user = User.objects.filter(username=options["user"], memberships__project=project).first()
        if user is None:
            raise CommandError(f"Name a member of {project} by --user.")
        if options["days"] is not None and options["days"] < 1:
            raise CommandError("--days is 1 or more.")
        expires_at = options["days"] and timezone.now() + timedelta(days=options["days"])
        _, secret = ApiToken.issue(
            project=project,
            user=user,
            scopes=options["scope"] or [ApiToken.Scope.CHAT, ApiToken.Scope.FEEDBACK],
            name=options["name"],
            expires_at=expires_at or None,
        )
        self.stdout.write(secret)
        self.stderr.write("Keep it safe: it cannot be shown again.")

    def _revoke(self, project: Project, prefix: str) -> None:
        tokens = list(project.api_tokens.beginning(prefix))
        if len(tokens) != 1:
            raise CommandError(f"{len(tokens)} tokens of {project} begin with “{prefix}”.")
        tokens[0].revoke()
        self.stdout.write(f"{tokens[0]} is revoked.")
