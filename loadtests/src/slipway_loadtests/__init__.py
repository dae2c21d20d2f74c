"""Load on one arm or two: who asks, how often, and what came of it. Imported by no other package: locust patches sockets."""
