"""Who signs tokens: identity providers and platforms that are declared, their keys, and the check of what they signed.

It says nothing of what a token is good for.  People's sign-in, and whoever else takes others' tokens, decide that.
"""
