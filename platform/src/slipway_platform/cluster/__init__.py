"""The cluster stack: one interface, and one module for each kind of cluster behind it."""
