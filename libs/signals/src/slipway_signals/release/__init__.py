"""Releases between environments: which digest a stack file names, why it may go on, and what was there before."""
