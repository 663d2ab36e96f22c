"""Looking after keys in use: whether upstream still takes them, how old they may become, what a policy asks for."""
