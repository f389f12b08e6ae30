"""`manage.py`, kept open beside a site: to start Django takes longer than most of its commands.

Reads a line of JSON for each command, its arguments; answers with another: [printed, traceback]."""

import json
import sys
import traceback
from contextlib import redirect_stdout
from io import StringIO

import django
from django.core.management import ManagementUtility

if __name__ == "__main__":
    django.setup()
    for line in sys.stdin:
        failed = ""
        with redirect_stdout(StringIO()) as printed:
            try:
                ManagementUtility(["manage.py", *json.loads(line)]).execute()
            except (Exception, SystemExit):
                failed = traceback.format_exc()
        print(json.dumps([printed.getvalue(), failed]), flush=True)
