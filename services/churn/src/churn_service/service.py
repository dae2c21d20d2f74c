"""Churn: how likely is it that this customer leaves? The model was trained on synthetic data.

The Structs are the validation, the OpenAPI document, the client and the tensors of `/v2/models/churn`.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from slipway_serve import Service


class Customer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of a customer on the day of the prediction."""

    tenure_months: Annotated[float, Meta(ge=0, le=600)]
    """Months since the first bill."""

    monthly_charges: Annotated[float, Meta(ge=0, le=10_000)]
    """Of the last bill."""

    support_calls: Annotated[int, Meta(ge=0, le=1_000)]
    """In the last 90 days."""

    income: Annotated[float, Meta(ge=0, le=1e9)] | None
    """A year, before tax; null = not told."""

    contract: Literal["monthly", "yearly"]


class Risk(Struct, frozen=True, kw_only=True):
    """The answer."""

    churn_probability: Annotated[float, Meta(ge=0, le=1)]
    """That the customer leaves within 30 days."""


service = Service("churn")
predict = service.model("churn", Customer, Risk, path="/predict", slo="realtime")
