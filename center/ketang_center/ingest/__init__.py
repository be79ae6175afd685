"""From the broker to durable rows: decode, admit, acknowledge. Never stops on bad input."""
