"""The Open Inference Protocol over gRPC: the server, its health service, and the generated messages.

Nothing is imported here, and nothing outside this package and remote.py's gRPC half imports grpc: a service without it
pays nothing.
"""
