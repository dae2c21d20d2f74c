"""Litestar as one would write it by hand."""

import msgspec
from litestar import Litestar, post
from model import load, NAMES

Row = msgspec.defstruct("Row", [(n, float) for n in NAMES])
m = load()


@post("/predict", status_code=200)
async def predict(data: Row) -> dict:
    return {"churn_probability": float(m.predict([[getattr(data, n) for n in NAMES]])[0])}


app = Litestar([predict], openapi_config=None)
