"""Makes projects and records each, as fast as it can: python auditor.py NAME"""

import os
import sys
from itertools import count

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "feedback_site.settings"
django.setup()

from annotate.audit.recording import Act, recording  # noqa: E402
from annotate.models import Project  # noqa: E402

for number in count():
    name = f"{sys.argv[1]}-{number}"
    with recording(Act(name)):
        Project.objects.create(name=name, slug=name)
