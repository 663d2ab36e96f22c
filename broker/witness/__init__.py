"""Witnesses of the record's log: one that is served, and how the broker asks them.

A witness keeps the size and root of the largest checkpoint that it saw of a log, and cosigns only what goes on from
there.  So all who ask for its cosignature see one history.  It is run by somebody else than the vendor, on a machine of
its own: it needs neither the broker's database nor its settings.
"""
