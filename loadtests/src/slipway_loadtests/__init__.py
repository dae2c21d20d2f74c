"""Load on one arm or two: who asks, how often, what came of it. Nobody imports it: locust patches sockets."""
