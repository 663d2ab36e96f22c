"""Who calls: operators (people), workloads (jobs) and customers with a link."""
