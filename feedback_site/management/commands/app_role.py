"""`manage.py app_role [NAME]`: the role of PostgreSQL that the site works as. It owns nothing, so
that whatever goes wrong in the site, history stays as it was written. Migrations run as the owner
of the tables."""

import re
from typing import Any

from django.apps import apps
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import ProgrammingError, connection, transaction

from feedback_site.embedded import APP_ROLE

NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class NotAName(Exception):
    """The sentence says what a role may be called."""


def append_only() -> dict[str, str]:
    """Tables whose rows are never changed → what else the site may do there than read and add."""
    found: dict[str, str] = {"django_migrations": ""}
    for config in apps.get_app_configs():
        found |= getattr(config, "append_only", {})
    return found


@transaction.atomic
def grant(role: str) -> None:
    """Makes the role if there is none, and gives it what the site needs and nothing else. Needed
    anew after migrations that make tables."""
    if not NAME.fullmatch(role):
        raise NotAName("A role has a name of small letters, digits and underscores.")
    tables = set(connection.introspection.table_names())
    kept = {name: rights for name, rights in append_only().items() if name in tables}
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        database = connection.ops.quote_name(cursor.fetchone()[0])
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role])
        if cursor.fetchone() is None:
            cursor.execute(f"CREATE ROLE {role} LOGIN NOINHERIT")
        cursor.execute(f"""
            GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {role};
            REVOKE CREATE ON SCHEMA public FROM PUBLIC, {role};
            GRANT USAGE ON SCHEMA public TO {role};
            REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role};
            GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
            GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role};
        """)
        for name, rights in kept.items():
            table = connection.ops.quote_name(name)
            cursor.execute(f"REVOKE UPDATE, DELETE ON {table} FROM {role}")
            if rights:
                cursor.execute(f"GRANT {rights} ON {table} TO {role}")
        cursor.execute(f"REVOKE INSERT ON django_migrations FROM {role}")


class Command(BaseCommand):
    help = (
        "Makes the role of PostgreSQL that the site works as, or gives it anew what it needs. Run "
        "it as the owner of the tables, after each migrate."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", default=APP_ROLE)
        parser.add_argument("--migrate", action="store_true", help="Migrate first.")

    def handle(self, **options: Any) -> None:
        if options["migrate"]:
            call_command("migrate", verbosity=0)
        try:
            grant(options["name"])
        except (NotAName, ProgrammingError) as error:
            raise CommandError(str(error).strip()) from error
        self.stdout.write(f"{options['name']} may work, and change no history.")
