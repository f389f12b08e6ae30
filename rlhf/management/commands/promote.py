"""`manage.py promote --project SLUG --policy NAME --reason TEXT`"""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from annotate.audit.commands import AuditedCommand
from annotate.command_line import operator_of, project_named
from rlhf.command_line import policy_named
from rlhf.registry.promotion import promote, roll_back


class Command(AuditedCommand):
    by_hand = True
    help = "Makes a policy the live one: from now on it answers the project's guests."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--project", required=True, metavar="SLUG")
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--policy", metavar="NAME")
        what.add_argument(
            "--roll-back", action="store_true", help="To the policy that was live before."
        )
        parser.add_argument("--reason", required=True, help="Kept for those who ask later.")
        parser.add_argument(
            "--override",
            default="",
            metavar="TEXT",
            help="Why to promote although the gate (people, KL, length, suites) is shut.",
        )
        parser.add_argument("--by", metavar="USER", help="Who decides; else the first operator.")

    def handle(self, **options: Any) -> None:
        project = project_named(options["project"])
        decision = {"by": operator_of(project, options["by"]), "reason": options["reason"]}
        try:
            if options["roll_back"]:
                promotion = roll_back(project, **decision)
            else:
                promotion = promote(
                    policy_named(project, options["policy"]),
                    override=options["override"],
                    **decision,
                )
        except ValidationError as error:
            raise CommandError(" ".join(error.messages))
        instead = f" instead of {promotion.previous}" if promotion.previous else ""
        self.stdout.write(f"{promotion.policy} is live{instead}.")
