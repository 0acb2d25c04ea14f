"""What computes a network at inference: PyTorch, ONNX Runtime, OpenVINO; 8 bits; export."""
