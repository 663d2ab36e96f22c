"""Mutations that tests must see: a kept list of one-line changes, and the runner of ``make mutants``."""
