from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("annotate", "0005_give_out_work_in_an_order_of_kinds")]

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
