"""Ray Serve by its own tutorial, with batching."""

import ray, signal
from ray import serve
from model import load, NAMES


@serve.deployment(num_replicas=1, max_ongoing_requests=512, ray_actor_options={"num_cpus": 1})
class Churn:
    def __init__(self):
        self.m = load()

    def reconfigure(self, config):
        if config["version"]:
            self.m = load()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002)
    async def score(self, rows):
        return [float(v) for v in self.m.predict(rows)]

    async def __call__(self, request):
        d = await request.json()
        return {"churn_probability": await self.score([d[n] for n in NAMES])}


def run(version):
    """Another version of the model: what Ray Serve's pages call a lightweight update."""
    serve.run(Churn.options(user_config={"version": version}).bind(), route_prefix="/")


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # before Ray makes threads
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", _metrics_export_port=0)
    serve.start(http_options={"port": 8001, "host": "127.0.0.1"})
    version = 0
    while True:
        run(version)
        signal.sigwait({signal.SIGHUP})
        version += 1
