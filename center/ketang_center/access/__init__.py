"""Who may see what, and the log of who looked."""
