"""The `slipway` command: one verb is one file is one library call."""
