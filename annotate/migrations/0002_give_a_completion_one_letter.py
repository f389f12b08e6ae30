from django.db import migrations, models

# Until now a letter was the place at which the labeler saw the completion: what was answered or
# begun keeps those that its reasons and comments speak of.
KEEP = """
UPDATE annotate_{table} SET letter_order = shown_order WHERE jsonb_array_length(shown_order) > 0
"""


class Migration(migrations.Migration):
    dependencies = [
        ('annotate', '0001_first_release'),
    ]

    operations = [
        migrations.AddField(
            model_name="assignment",
            name="letter_order",
            field=models.JSONField(
                help_text="Completion ids in the order of their letters, where this labeler sees others than everybody.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="ranking",
            name="letter_order",
            field=models.JSONField(
                help_text="Completion ids in the order of their letters, where the labeler saw others than everybody.",
                null=True,
            ),
        ),
        migrations.RunSQL(KEEP.format(table="assignment"), migrations.RunSQL.noop),
        migrations.RunSQL(KEEP.format(table="ranking"), migrations.RunSQL.noop),
    ]
