"""The device: collectors, recorder, spool, uplink and what a person on site can ask of it."""

VERSION = "0.1.0"
"""Stands here, not in package metadata, whose reader alone costs the supervisor a megabyte."""
