"""The DNN engine: networks read from model files, optimised and run."""
