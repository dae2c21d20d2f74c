"""LitServe by its own tutorial."""

import os, litserve as ls
from model import load, NAMES


class API(ls.LitAPI):
    def setup(self, device):
        self.m = load()

    def decode_request(self, request):
        return [request[n] for n in NAMES]

    def batch(self, inputs):
        return inputs

    def predict(self, x):
        return self.m.predict(x if isinstance(x[0], list) else [x])

    def unbatch(self, out):
        return list(out)

    def encode_response(self, out):
        return {"churn_probability": float(out if not hasattr(out, "__len__") else out[0])}


if __name__ == "__main__":
    b = int(os.environ.get("BENCH_BATCH", "64"))
    api = API(max_batch_size=b, batch_timeout=0.002) if b > 1 else API()
    ls.LitServer(api, accelerator="cpu", workers_per_device=1, restart_workers=True).run(
        port=8001, num_api_servers=1, log_level="error", generate_client_file=False
    )
