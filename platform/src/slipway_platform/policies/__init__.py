"""The rules that every stack and every cluster is held to."""
