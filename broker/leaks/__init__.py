"""Our keys where they should not be: found by their form, recognised by a keyed fingerprint, cut off."""
