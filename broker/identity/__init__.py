"""Who calls: operators (people) and workloads (jobs).

Customers with a link are known in ``intake/proving``.
"""
