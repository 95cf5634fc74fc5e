"""The benchmark's ONNX files in the form that an engine's own converter takes, for engines that read no ONNX."""
