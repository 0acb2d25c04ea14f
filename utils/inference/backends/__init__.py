"""Inference backends: PyTorch, torch.compile, ONNX Runtime, OpenVINO; 8 bits; ONNX export."""
