"""The record for SIEMs."""
