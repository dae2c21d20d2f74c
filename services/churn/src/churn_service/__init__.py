"""The churn service: see `service.py`."""
