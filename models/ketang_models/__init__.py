"""ONNX files, each with its manifest and model card."""
