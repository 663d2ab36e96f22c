"""Changes of a key: asked for, submitted, decided, retired, given up; the only way to them for whoever stands above."""
