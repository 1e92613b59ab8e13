"""Logistic regression: computed with one thread, so that no number of cores changes a result."""

import os
import subprocess
import sys

SCRIPT = """
import numpy as np
from emofuse.core.process import start_worker
from emofuse.models.linear import LinearConfig, solutions

if __name__ == "__main__":
    start_worker()
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_info

    fit, threads = LogisticRegression.fit, []

    def noted(*arguments):
        threads.extend(each["num_threads"] for each in threadpool_info())
        return fit(*arguments)

    LogisticRegression.fit = noted
    list(solutions(np.eye(4, dtype=np.float32), np.arange(4) % 2, 2, LinearConfig((1.0,))))
    print(len(threads) > 1, max(threads))
"""


def test_libraries_that_come_with_the_solver_compute_with_one_thread() -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["True", "1"]
