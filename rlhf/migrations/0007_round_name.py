import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("rlhf", "0006_intervals_and_judges")]

    operations = [
        migrations.AddField(
            "round",
            "name",
            models.CharField(blank=True, default="", help_text="What people call it.", max_length=60),
            preserve_default=False,
        ),
        migrations.AlterField(
            "gatelimits",
            "length",
            models.FloatField(
                "Length",
                default=1.5,
                help_text="How many times longer, or shorter, than the live policy its answers may"
                " be.",
                validators=[django.core.validators.MinValueValidator(0.1)],
            ),
        ),
    ]
