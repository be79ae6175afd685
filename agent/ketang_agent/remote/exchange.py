"""What supervisor and judging child leave for each other in the folder ``remote``: file names."""

ASKED = "asked.json"
"""The supervisor's: what it knows."""
RECEIVED = "received.json"
"""The supervisor's: what came down, as it came."""
JUDGED = "judged.json"
"""The child's: its verdict."""
