"""Releases sent to a fleet, a few devices at a time, and the same way back."""
