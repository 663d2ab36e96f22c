"""The job's side: prove who it is, lease access, and (for scripted senders) seal a key.  Imports only ``formats``."""
