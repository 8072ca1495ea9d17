"""What is set in every kernel and kept in the run record, so that a rerun gives the same numbers to the last bit."""

from __future__ import annotations

FIXED_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MPLBACKEND": "agg",
}
"""Hash seed, threads of the linear algebra libraries (their sums depend on it), and the drawing backend."""
