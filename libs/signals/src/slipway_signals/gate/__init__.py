"""The gate: whether a candidate is no worse than what it would replace."""
