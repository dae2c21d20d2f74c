"""FastAPI as one would write it by hand."""

from fastapi import FastAPI
from pydantic import create_model
from model import load, NAMES

Row = create_model("Row", **{n: (float, ...) for n in NAMES})
m = load()
app = FastAPI()


@app.post("/predict")
async def predict(row: Row) -> dict:
    return {"churn_probability": float(m.predict([[getattr(row, n) for n in NAMES]])[0])}
