"""The DNN stage: networks on a CPU or a GPU."""

import os

# OpenMP's threads spin while they wait for one another, for long: wherever another process wants one of the cores, a
# network takes 50 times as long and more. With so few turns it is nearly as fast on idle cores, and takes 3 to 5 times
# as long on shared ones. Read once, when torch is loaded, so it stands before all imports.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
