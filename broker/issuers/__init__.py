"""Who signs tokens that others bring, their keys, and the check of these tokens.

It says nothing of what a token is good for.  People's sign-in, and whoever else takes others' tokens, decide that.
"""
