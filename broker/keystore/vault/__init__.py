"""Vault and OpenBao: how they are called, signed in to, and what is kept with them."""
