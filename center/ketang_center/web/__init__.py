"""The console: server-rendered pages, one live stream, no request to anywhere else."""
