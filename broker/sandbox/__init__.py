"""A sandbox of the reference upstream, Raptor Comply, for the demo and the tests.

It speaks the upstream's documented API.  It imports nothing of the broker: it is somebody else's service.
"""
