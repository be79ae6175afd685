"""Where the centre keeps things: raw rows by day, and one control database."""
