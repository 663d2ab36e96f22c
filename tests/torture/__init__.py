"""Several brokers over one database while everything around them fails, and a check of what happened, Jepsen's way."""
