from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("annotate", "0014_insert_snippets")]

    operations = [
        migrations.AddConstraint(
            "policy",
            models.CheckConstraint(
                condition=~models.Q(folder__regex=r"^/|(^|/)\.\.(/|$)"),
                name="model_folders_lie_in_data_dir",
                violation_error_message="A model folder lies in DATA_DIR: name it from there.",
            ),
        )
    ]
