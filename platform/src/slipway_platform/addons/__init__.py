"""The add-ons stack: what a cluster needs before a service can be released to it."""
