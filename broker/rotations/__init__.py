"""Changes of a key, whole.  Rooms above take these commands and no smaller steps."""
