from django.db import migrations, models
from django.db.models import F
from django.db.models.deletion import SET_NULL


def forget_collapsed_intervals(apps, schema_editor):
    """An interval of no width claimed what nobody knew."""
    apps.get_model("rlhf", "Evaluation").objects.filter(low=F("high")).update(low=None, high=None)


class Migration(migrations.Migration):
    dependencies = [("rlhf", "0005_compare_answers_to_one_prompt")]

    operations = [
        migrations.AlterField(
            "evaluation",
            "low",
            models.FloatField(
                null=True, help_text="Lower end of the 95 % interval; none of one prompt."
            ),
        ),
        migrations.AlterField(
            "evaluation",
            "high",
            models.FloatField(null=True, help_text="Upper end of the 95 % interval."),
        ),
        migrations.AddField(
            "evaluation",
            "prompts",
            models.PositiveIntegerField(null=True, help_text="On how many prompts they met."),
        ),
        migrations.AddField(
            "evaluation",
            "reward_model",
            models.ForeignKey(
                "rlhf.rewardmodel",
                SET_NULL,
                null=True,
                related_name="evaluations",
                help_text="Which one judged.",
            ),
        ),
        migrations.RunPython(forget_collapsed_intervals, migrations.RunPython.noop, elidable=True),
    ]
