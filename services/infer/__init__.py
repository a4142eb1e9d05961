"""The DNN stage: networks on a CPU or a GPU."""
