"""Who may call, and how often: API keys, JWT, client certificates, limits for each client (docs/access.md).

Nothing of it is imported by a server whose `[runtime.access]` is empty.
"""
