"""Tests of the protocol: messages, tensors, codec, signatures, service."""
