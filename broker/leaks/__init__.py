"""Our keys where they should not be.

They are found by their form, recognised by a keyed fingerprint, and cut off.
"""
