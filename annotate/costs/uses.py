"""What a policy may be asked for."""

from django.db import models


class Use(models.TextChoices):
    CHAT = "chat"
    GATEWAY = "gateway", "API"
    TALK = "talk", "talks with labelers"
    GRID = "grid", "playground"
    SAMPLING = "sampling", "sampling, comparisons and suites"
    DRAFTS = "drafts", "drafts to rank"
    JUDGE = "judge", "judging"
    EMBEDDING = "embedding", "embeddings"
    OTHER = "other"
