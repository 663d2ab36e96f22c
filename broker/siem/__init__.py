"""The record for SIEMs, in the forms that they read.

It is pulled by them or pushed to them, with the log's checkpoints.
"""
