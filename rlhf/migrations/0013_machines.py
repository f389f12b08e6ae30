from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("rlhf", "0012_tag_rounds")]

    operations = [
        migrations.CreateModel(
            name="Machine",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "slot",
                    models.CharField(help_text="The host, or host/gpu.", max_length=100, unique=True),
                ),
                ("worker", models.CharField(blank=True, max_length=100)),
                (
                    "takes",
                    models.CharField(
                        choices=[
                            ("any", "takes runs"),
                            ("nothing_new", "draining"),
                            ("nothing", "paused"),
                        ],
                        default="any",
                        max_length=11,
                    ),
                ),
                (
                    "figures",
                    models.JSONField(default=dict, help_text="See rlhf.runs.machine_figures."),
                ),
                ("seen_at", models.DateTimeField()),
            ],
            options={"ordering": ["slot"]},
        ),
    ]
