"""Plumbing without product words: database, errors, secret type, outbound HTTP, clock, logs."""
