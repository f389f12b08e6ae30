"""Pages of the operator: rounds, runs, policies."""
