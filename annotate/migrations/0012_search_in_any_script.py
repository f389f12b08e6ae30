from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import migrations, models

from annotate.prompts.search import index_prompts


def index(apps, schema_editor):
    """As today's searches are spelled, and not as those of the day of this migration."""
    with schema_editor.connection.cursor() as cursor:
        index_prompts(cursor)


class Migration(migrations.Migration):
    dependencies = [("annotate", "0011_open_the_gateway")]

    operations = [
        migrations.RemoveIndex("prompt", "prompts_by_word"),
        migrations.RemoveField("prompt", "search"),
        migrations.AddField(
            "prompt",
            "folded",
            models.TextField(
                db_default="", editable=False, help_text="The texts of all messages, for search."
            ),
        ),
        migrations.AddField(
            "prompt",
            "search",
            SearchVectorField(
                db_default=models.Value("", models.TextField()),
                editable=False,
                help_text="The index of `folded`.",
            ),
        ),
        migrations.AlterField(
            "prompt",
            "text",
            models.TextField(editable=False, help_text="The last user message, for lists."),
        ),
        migrations.RunPython(index, migrations.RunPython.noop, elidable=True),
        migrations.AddIndex("prompt", GinIndex(fields=["search"], name="prompts_by_word")),
    ]
