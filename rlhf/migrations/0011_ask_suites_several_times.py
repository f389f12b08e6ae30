from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("rlhf", "0010_download_models")]

    operations = [
        migrations.AddField(
            model_name="suiteresult",
            name="samples",
            field=models.PositiveSmallIntegerField(default=1, help_text="Answers to each probe."),
        ),
        migrations.AlterField(
            model_name="suiteresult",
            name="probes",
            field=models.PositiveSmallIntegerField(
                help_text="Answers judged: one a probe and sample."
            ),
        ),
    ]
