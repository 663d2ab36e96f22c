"""People and organizations are erased: in the record, and where they are named elsewhere."""
