"""Vault and OpenBao: how they are called and signed in to, and what is kept with them."""
