"""Evidence as people and CI read it: a page, a summary for a pull request, JUnit.

Nothing here judges: evidence in, text out, the same text for the same evidence. A verdict is always a word and a shape
beside its colour. Names are imported from the modules.
"""
