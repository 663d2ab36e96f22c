"""Tenants: every customer organization of an upstream, isolated from every other one."""
