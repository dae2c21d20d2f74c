"""BentoML by its own tutorial."""

import bentoml, numpy as np
from pydantic import create_model
from model import load, NAMES

Row = create_model("Row", **{n: (float, ...) for n in NAMES})


@bentoml.service(traffic={"timeout": 30}, workers=int(__import__("os").environ.get("BENCH_WORKERS", "1")))
class Churn:
    def __init__(self):
        self.m = load()

    @bentoml.api
    async def predict(self, input: Row) -> dict:
        return {"churn_probability": float(self.m.predict([[getattr(input, n) for n in NAMES]])[0])}

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=2000)
    def score(self, input: list[Row]) -> list[float]:
        return [float(v) for v in self.m.predict([[getattr(r, n) for n in NAMES] for r in input])]
