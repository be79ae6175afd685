"""One file a model family: networks and a frame in, a number of heads out."""
