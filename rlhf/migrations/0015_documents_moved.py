from django.db import migrations, models


class Migration(migrations.Migration):
    """The table is annotate's since its migration 0026."""

    dependencies = [
        ("rlhf", "0014_take_back_metrics"),
        ("annotate", "0026_look_things_up"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    "snapshot",
                    "documents",
                    models.ManyToManyField(related_name="snapshots", to="annotate.document"),
                ),
                migrations.DeleteModel("Document"),
            ]
        )
    ]
