"""The customers' pages: one for one-time links, one for status links.

Operators have theirs in :mod:`broker.web.console`.
"""
