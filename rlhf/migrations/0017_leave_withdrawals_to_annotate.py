from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('rlhf', '0016_count_the_work_of_a_run_without_the_waiting'),
        ('annotate', '0019_keep_withdrawals_beside_people'),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[migrations.DeleteModel('Withdrawal')],
        ),
    ]
