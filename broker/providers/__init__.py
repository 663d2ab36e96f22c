"""Upstreams, declared in TOML and not coded."""
