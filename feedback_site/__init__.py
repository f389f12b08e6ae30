"""Settings, addresses and processes of the site. No domain rules live here."""

__version__ = "0.1.0"
