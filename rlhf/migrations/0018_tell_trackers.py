from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("rlhf", "0017_documents_moved")]

    operations = [
        migrations.AddField(
            "run",
            "tracking",
            models.JSONField(
                default=dict,
                help_text="What went wrong with each tracker that was told: {title: sentence}",
            ),
        ),
    ]
