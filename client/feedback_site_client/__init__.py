"""A client of Feedback Site's API."""

from feedback_site_client import calls, tables
from feedback_site_client.calls import ApiError, Call
from feedback_site_client.clients import AsyncClient, Client

__all__ = ["ApiError", "AsyncClient", "Call", "Client", "calls", "tables"]
