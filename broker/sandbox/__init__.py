"""A sandbox of the reference upstream, Raptor Comply: speaks its documented API, for the demo and the tests.

Imports nothing of the broker: it is somebody else's service.
"""
