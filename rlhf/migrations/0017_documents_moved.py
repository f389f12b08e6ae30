from django.db import migrations, models


class Migration(migrations.Migration):
    """The table is annotate's since its migration 0027."""

    dependencies = [
        ("rlhf", "0016_reuse_reward_models"),
        ("annotate", "0029_look_things_up"),
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
