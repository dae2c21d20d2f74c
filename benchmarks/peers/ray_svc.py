"""Ray Serve by its own tutorial, with batching."""

import ray, sys, time
from ray import serve
from model import load, NAMES


@serve.deployment(num_replicas=1, max_ongoing_requests=512, ray_actor_options={"num_cpus": 1})
class Churn:
    def __init__(self):
        self.m = load()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002)
    async def score(self, rows):
        return [float(v) for v in self.m.predict(rows)]

    async def __call__(self, request):
        d = await request.json()
        return {"churn_probability": await self.score([d[n] for n in NAMES])}


app = Churn.bind()
if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", _metrics_export_port=0)
    serve.start(http_options={"port": 8001, "host": "127.0.0.1"})
    serve.run(app, route_prefix="/")
    print("up", flush=True)
    while True:
        time.sleep(60)
