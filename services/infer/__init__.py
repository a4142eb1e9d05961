"""The DNN stage: networks on a CPU or a GPU."""

import os

# Threads that spin while they wait for one another, as torch's do by default, make a network tens of times slower
# wherever another process wants one of the cores. Read once, when torch is loaded, so it stands before all imports.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
