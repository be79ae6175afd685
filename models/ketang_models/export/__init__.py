"""Scripts that make the shipped ONNX files from public weights. Never imported by the agent."""
