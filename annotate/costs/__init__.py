"""What answers cost: a ledger of calls to models, its totals, and the time that labels take."""
