"""The tests. Before any of them imports NumPy: one thread for linear algebra, as in the kernels.

More threads than cores spin while they wait for each other; four recalibrations took four times the CPU seconds.
"""

import os

from medisync.runs.fixed_environment import FIXED_ENVIRONMENT

os.environ.update({name: value for name, value in FIXED_ENVIRONMENT.items() if name.endswith("_THREADS")})
