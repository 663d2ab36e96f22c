"""A real OpenID provider (npm's oidc-provider), for the journey of a person who signs in by one."""
