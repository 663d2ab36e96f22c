"""The job's side: prove who it is, lease access and use it; seal a key.  Imports only ``formats``."""
