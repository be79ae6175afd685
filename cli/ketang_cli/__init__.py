"""The ketang command, the demo and the simulator. Nobody imports this package."""
