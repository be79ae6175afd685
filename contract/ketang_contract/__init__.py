"""What is said on the wire: values, limits, codec and errors. Imports nothing of ours."""
