"""The Open Inference Protocol v2: messages, tensors, their codec, model signatures, service and stub."""
