from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("rlhf", "0009_learn_the_best_of_ones_own_answers")]

    operations = [
        migrations.AddField(
            "round",
            "tags",
            ArrayField(models.CharField(max_length=50), blank=True, default=list, size=None),
        ),
    ]
