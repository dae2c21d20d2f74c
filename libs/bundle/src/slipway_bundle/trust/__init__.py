"""Who says what about a bundle, and whether that is enough: signatures, approvals, and the policy that asks for them.

Names are imported from the modules: none of them is needed to build, and some load cryptography.
"""
