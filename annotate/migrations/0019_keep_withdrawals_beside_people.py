import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    """The table of `rlhf` is taken over as it is."""

    dependencies = [
        ('annotate', '0018_keep_prompts_that_are_being_written'),
        ('rlhf', '0016_count_the_work_of_a_run_without_the_waiting'),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    'ALTER TABLE rlhf_withdrawal RENAME TO annotate_withdrawal',
                    'ALTER TABLE annotate_withdrawal RENAME TO rlhf_withdrawal',
                ),
            ],
            state_operations=[
                migrations.CreateModel(
                    name='Withdrawal',
                    fields=[
                        ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                        ('reason', models.CharField(blank=True, max_length=500)),
                        ('created_at', models.DateTimeField(auto_now_add=True)),
                        ('decided_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                        ('person', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='withdrawals', to=settings.AUTH_USER_MODEL)),
                        ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='withdrawals', to='annotate.project')),
                    ],
                    options={
                        'ordering': ['-id'],
                        'constraints': [models.UniqueConstraint(fields=('project', 'person'), name='one_withdrawal_a_person')],
                    },
                ),
            ],
        ),
    ]
