"""The limit: bare ASGI, msgspec decode, one predict per request (BENCH_MODE=predict) or no model at all (hello)."""

import os, msgspec
from model import load, NAMES

Row = msgspec.defstruct("Row", [(n, float) for n in NAMES])
dec = msgspec.json.Decoder(Row)
m = load()
PRED = os.environ.get("BENCH_MODE", "predict") == "predict"
H = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    b = await receive()
    row = dec.decode(b["body"])
    out = float(m.predict([[getattr(row, n) for n in NAMES]])[0]) if PRED else 0.5
    await send(H)
    await send({"type": "http.response.body", "body": msgspec.json.encode({"churn_probability": out})})
