"""Token buckets: how often something may be done, exact however many ask at once.

A bucket holds `burst` tokens at most and gets `rate` new ones a second; each act takes one. It is a
row of PostgreSQL whose lock orders those who take, so that all processes count together. The table
is unlogged: a crash of the database fills all buckets, and nothing else is lost."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from django.db import connection, models
from django.db.models.functions import Now
from django.utils.crypto import salted_hmac

FORGOTTEN_AFTER = timedelta(days=1)  # by then any bucket is full again

# Clocks may be set back; tokens are not taken away for that.
LEFT = """LEAST(%(burst)s, bucket.tokens + %(rate)s
    * GREATEST(0, extract(epoch FROM clock_timestamp() - bucket.filled_at)))"""
TAKE = f"""
INSERT INTO feedback_site_bucket AS bucket (key, tokens, filled_at)
VALUES (%(key)s, %(burst)s - 1, clock_timestamp())
ON CONFLICT (key) DO UPDATE SET tokens = {LEFT} - 1, filled_at = clock_timestamp()
WHERE {LEFT} >= 1
RETURNING tokens
"""
WAIT = f"SELECT (1 - {LEFT}) / %(rate)s FROM feedback_site_bucket AS bucket WHERE key = %(key)s"


class Rate(NamedTuple):
    """`burst` at once, and `rate` a second from then on."""

    burst: float
    rate: float


class Bucket(models.Model):
    key = models.CharField(
        max_length=64, primary_key=True, help_text="A keyed digest: names and addresses stay out."
    )
    tokens = models.FloatField()
    filled_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.key

    @classmethod
    def take(cls, whose: str, rate: Rate) -> float:
        """Take a token out of the bucket `whose`; 0, or the seconds to wait where there is none.

        Call it outside of transactions: inside, others would wait for their end."""
        key = salted_hmac("feedback_site.Bucket", whose, algorithm="sha256").hexdigest()
        values = {"key": key, **rate._asdict()}
        with connection.cursor() as cursor:
            cursor.execute(TAKE, values)
            if cursor.fetchone():
                return 0.0
            cursor.execute(WAIT, values)
            row = cursor.fetchone()
        return max(0.01, row[0]) if row else 0.01

    @classmethod
    def forget_full(cls) -> None:
        cls.objects.filter(filled_at__lt=Now() - FORGOTTEN_AFTER).delete()
