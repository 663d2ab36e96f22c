"""What happened, on the record before it happens.

The record is the commit point of everything that reveals or uses a secret.
"""
