"""What happened, on the record before it happens: the commit point of everything that reveals or uses a secret."""
