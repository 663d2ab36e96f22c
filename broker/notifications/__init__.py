"""What people are notified of: once each, never with a secret in it."""
