"""The device: collectors, recorder, spool, uplink and what a person on site can ask of it."""
