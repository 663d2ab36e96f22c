"""People sign in by an OpenID provider.

An account is a person's by issuer and subject alone, never by an address or a name: those are anybody's to choose at
some provider.  What a person may do is what the provider's claims map to, each time they sign in and while they stay.
"""
