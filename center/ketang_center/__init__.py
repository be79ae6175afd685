"""The regional centre: ingest, store, metrics and the console."""
