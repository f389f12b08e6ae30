import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('annotate', '0030_keep_for_a_while'),
    ]

    operations = [
        migrations.CreateModel(
            name='Notice',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('event', models.CharField(max_length=20)),
                ('subject', models.CharField(max_length=300)),
                ('link', models.CharField(help_text='The path of a page of this site.', max_length=200)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('seen_at', models.DateTimeField(null=True)),
            ],
            options={
                'ordering': ['-id'],
            },
        ),
        migrations.AddField(
            model_name='user',
            name='notices_by_mail',
            field=models.BooleanField(db_default=False, default=False, help_text='When a run ends, fails or pauses, or a batch is done, in projects you operate.', verbose_name='Send me notices by e-mail'),
        ),
        migrations.AlterField(
            model_name='mail',
            name='kind',
            field=models.CharField(choices=[('sign_in', 'sign-in link'), ('reset', 'new password'), ('verify', 'address'), ('invitation', 'Invitation'), ('notice', 'Notice'), ('news', 'News')], max_length=10),
        ),
        migrations.AddIndex(
            model_name='task',
            index=models.Index(condition=models.Q(('closed_at', None)), fields=["project", "batch", "id"], name='open_tasks_of_a_batch'),
        ),
        migrations.AddField(
            model_name='notice',
            name='person',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='notices', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='notice',
            name='project',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='notices', to='annotate.project'),
        ),
        migrations.AddField(
            model_name='mail',
            name='notice',
            field=models.OneToOneField(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='mail', to='annotate.notice'),
        ),
        migrations.AddIndex(
            model_name='notice',
            index=models.Index(fields=['person', 'project', '-id'], name='notices_of_a_person'),
        ),
        migrations.AddConstraint(
            model_name='notice',
            constraint=models.UniqueConstraint(condition=models.Q(('seen_at', None)), fields=('person', 'project', 'event', 'subject', 'link'), name='one_unseen_notice_of_a_thing'),
        ),
    ]
