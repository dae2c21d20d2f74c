"""One module for each model format: `FORMAT`, `FLOATS`, `TAKES_MISSING`, `save`, `sniff`, `load` (weights.Adapter).

Importing an adapter imports no library of its format; `save` and `load` do, and say so when it is missing.
"""
