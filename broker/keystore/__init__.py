"""Seal and open: the only code that meets a master key."""
