"""`manage.py prune_models --project SLUG`"""

from typing import Any

from django.core.management.base import CommandParser
from django.template.defaultfilters import filesizeformat

from annotate.audit.commands import AuditedCommand
from annotate.command_line import project_named
from rlhf.registry.retention import KEEP_ROUNDS, disk_use_of, prune_models


class Command(AuditedCommand):
    by_hand = True
    help = (
        "Removes the files of models that nothing needs any more, and checkpoints of finished"
        " runs. Their "
        "records stay. Safe to repeat, from cron too."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument(
            "--keep-rounds",
            type=int,
            default=KEEP_ROUNDS,
            metavar="N",
            help=f"The models of the newest N rounds stay; {KEEP_ROUNDS} if not given.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Only say what would go.")

    def handle(self, **options: Any) -> None:
        project, keep = project_named(options["project"]), max(options["keep_rounds"], 0)
        use = disk_use_of(project, keep_rounds=keep)
        for each in use.holdings:
            fate = f"stays: {', '.join(each.reasons)}" if each.reasons else "goes"
            self.stdout.write(f"{each.model.name}, {filesizeformat(each.size)}: {fate}")
        if use.saves:
            self.stdout.write(f"checkpoints of finished runs, {len(use.saves)}: go")
        if options["dry_run"]:
            self.stdout.write(f"{filesizeformat(use.spare)} could be freed.")
        else:
            freed = prune_models(project, keep_rounds=keep)
            self.stdout.write(f"{filesizeformat(freed)} are free again.")
