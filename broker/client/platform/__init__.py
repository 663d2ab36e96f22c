"""Where a job's platform has a token that says who the job is.

A source is asked again for each exchange.  Kubernetes rewrites its files, and some platforms' tokens are good once.
"""
