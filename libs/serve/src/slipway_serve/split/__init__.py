"""The split: a small reverse proxy that shares requests between arms, copies them, and counts for the gate."""
