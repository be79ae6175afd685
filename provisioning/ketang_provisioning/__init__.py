"""Keys, certificates and broker configuration."""
