"""How a device gets its identity and renews it; all but ``files`` lives in processes of its own."""
