"""The job's side: prove who it is, lease access and use it; and seal a key.

It imports only ``formats``.
"""
