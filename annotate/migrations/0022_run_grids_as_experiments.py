from django.db import migrations, models


def make_rows(apps, schema_editor):
    """What was asked was a list of texts."""
    for grid in apps.get_model("annotate", "Grid").objects.all():
        grid.asked = [
            {"messages": [{"role": "user", "content": text}], "then": [], "reference": ""}
            for text in grid.asked
        ]
        grid.save(update_fields=["asked"])


class Migration(migrations.Migration):
    dependencies = [("annotate", "0021_talk_with_policies")]

    operations = [
        migrations.RenameField(model_name="grid", old_name="prompts", new_name="asked"),
        migrations.AlterField(
            model_name="grid", name="asked", field=models.JSONField(help_text="See Row.")
        ),
        migrations.AddField(
            model_name="grid",
            name="checks",
            field=models.TextField(
                blank=True, help_text="See feedback_site.answer_checks.", default=""
            ),
            preserve_default=False,
        ),
        # What is there was asked while somebody looked: it is answered.
        migrations.AddField(
            model_name="cell",
            name="state",
            field=models.CharField(
                choices=[
                    ("waiting", "Waiting"),
                    ("asking", "Asking"),
                    ("answered", "Answered"),
                    ("failed", "Failed"),
                    ("interrupted", "Interrupted"),
                    ("cancelled", "Cancelled"),
                ],
                default="answered",
                max_length=12,
            ),
        ),
        migrations.RemoveConstraint(model_name="cell", name="one_answer_a_cell"),
        migrations.AlterModelOptions(
            name="cell",
            options={"ordering": ["row", "column", "sample"]},
        ),
        migrations.AddField(
            model_name="cell",
            name="between",
            field=models.JSONField(default=list, help_text="The model's answers before the last."),
        ),
        migrations.AddField(
            model_name="cell",
            name="completion_tokens",
            field=models.PositiveIntegerField(null=True),
        ),
        migrations.AddField(
            model_name="cell",
            name="first_ms",
            field=models.PositiveIntegerField(
                null=True, verbose_name="milliseconds to the first token"
            ),
        ),
        migrations.AddField(
            model_name="cell",
            name="leased_until",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="cell",
            name="price",
            field=models.DecimalField(decimal_places=8, max_digits=14, null=True),
        ),
        migrations.AddField(
            model_name="cell",
            name="prompt_tokens",
            field=models.PositiveIntegerField(null=True),
        ),
        migrations.AddField(
            model_name="cell",
            name="sample",
            field=models.PositiveSmallIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="cell",
            name="scores",
            field=models.JSONField(default=dict, help_text="Name of a check → 0 to 1."),
        ),
        migrations.AddField(
            model_name="cell",
            name="token",
            field=models.UUIDField(
                editable=False, help_text="Of the worker that asks it.", null=True
            ),
        ),
        migrations.AddField(
            model_name="cell",
            name="total_ms",
            field=models.PositiveIntegerField(null=True, verbose_name="milliseconds"),
        ),
        migrations.AddField(
            model_name="cell",
            name="tries",
            field=models.PositiveSmallIntegerField(
                default=0, help_text="A busy server put it back."
            ),
        ),
        migrations.AddField(
            model_name="cell",
            name="trouble",
            field=models.CharField(blank=True, max_length=300),
        ),
        migrations.AddField(
            model_name="grid",
            name="rule",
            field=models.CharField(
                blank=True, default="", help_text="That is tried; see rules.RULES.", max_length=60
            ),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="grid",
            name="samples",
            field=models.PositiveSmallIntegerField(default=1, help_text="Answers in each cell."),
        ),
        migrations.AddField(
            model_name="grid",
            name="seed",
            field=models.PositiveIntegerField(
                default=0, help_text="Of the first sample; then one more."
            ),
        ),
        migrations.AlterField(
            model_name="cell",
            name="state",
            field=models.CharField(
                choices=[
                    ("waiting", "Waiting"),
                    ("asking", "Asking"),
                    ("answered", "Answered"),
                    ("failed", "Failed"),
                    ("interrupted", "Interrupted"),
                    ("cancelled", "Cancelled"),
                ],
                default="waiting",
                max_length=12,
            ),
        ),
        migrations.AddIndex(
            model_name="cell",
            index=models.Index(
                condition=models.Q(("state__in", ("waiting", "asking"))),
                fields=["grid", "row"],
                name="cells_to_ask",
            ),
        ),
        migrations.AddConstraint(
            model_name="cell",
            constraint=models.UniqueConstraint(
                fields=("grid", "row", "column", "sample"), name="one_answer_a_cell"
            ),
        ),
        migrations.RunPython(make_rows, migrations.RunPython.noop),
    ]
