"""People and organizations are erased: their keys in the record, and what names them elsewhere."""
