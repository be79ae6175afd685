"""Device, broker and centre in one process, with every fault we know, replayable by seed."""
