"""What people are told: once each, never with a secret in it."""
