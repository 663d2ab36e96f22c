"""The customers' pages: a one-time link's and a status link's.  Operators have none here."""
