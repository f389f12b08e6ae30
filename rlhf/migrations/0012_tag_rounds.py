from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("rlhf", "0011_ask_suites_several_times")]

    operations = [
        migrations.AddField(
            "round",
            "tags",
            ArrayField(models.CharField(max_length=50), blank=True, default=list, size=None),
        ),
    ]
