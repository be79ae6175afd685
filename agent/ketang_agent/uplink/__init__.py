"""From the spool to the broker and back: batches out, acknowledgements in."""
