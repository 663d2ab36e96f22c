"""Jobs that prove themselves with the token of their platform, and store no key.

An operator's trust says which tokens of which issuer are a job's.  The tokens themselves are verified by
:mod:`broker.issuers`.
"""
