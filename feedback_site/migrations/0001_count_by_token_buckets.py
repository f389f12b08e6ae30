from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Bucket",
            fields=[
                (
                    "key",
                    models.CharField(
                        help_text="A keyed digest: names and addresses stay out.",
                        max_length=64,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("tokens", models.FloatField()),
                ("filled_at", models.DateTimeField(db_index=True)),
            ],
        ),
        migrations.RunSQL(
            "ALTER TABLE feedback_site_bucket SET UNLOGGED",
            "ALTER TABLE feedback_site_bucket SET LOGGED",
        ),
    ]
