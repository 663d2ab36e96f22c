"""What lists and the worker read of a database in which every table is large."""
