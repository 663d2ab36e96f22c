"""Who may use what, and how."""
