from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("annotate", "0016_connect_model_servers")]

    operations = [
        migrations.AddField(
            model_name="prompt",
            name="reference",
            field=models.TextField(
                blank=True,
                db_default="",
                default="",
                help_text="The right answer, where one is known: checks compare with it. "
                "Labelers do not see it.",
            ),
        ),
    ]
