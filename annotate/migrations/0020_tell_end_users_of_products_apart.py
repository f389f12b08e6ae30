from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("annotate", "0019_keep_withdrawals_beside_people")]

    operations = [
        migrations.AddField(
            model_name="conversation",
            name="end_user",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="Of an exchange of a product: a keyed digest of what it calls its user.",
                max_length=64,
            ),
        ),
    ]
