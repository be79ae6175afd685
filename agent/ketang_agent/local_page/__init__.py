"""The page a device shows of itself, to whoever sits in front of it."""
