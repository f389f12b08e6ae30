from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("rlhf", "0004_intervals_and_judges")]

    operations = [
        migrations.AddField(
            "round",
            "name",
            models.CharField(blank=True, default="", help_text="What people call it.", max_length=60),
            preserve_default=False,
        )
    ]
