"""The work every peer does: `churn` is a real XGBoost model, `accel` stands in for an accelerator whose
cost is 5 ms + 0.1 ms per row and which releases the GIL (so that batching efficiency has a known optimum)."""

import os, time, numpy as np

D = os.environ.get("BENCH_DIR", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".bench"))
NAMES = [f"f{i}" for i in range(20)]


class Churn:
    def __init__(self):
        import xgboost as xgb

        self.m = xgb.XGBClassifier(n_jobs=1)
        self.m.load_model(f"{D}/churn.ubj")
        self.m.set_params(n_jobs=1)

    def predict(self, X):
        return self.m.predict_proba(np.asarray(X, dtype=np.float32))[:, 1]


class Accel:
    def predict(self, X):
        n = len(X)
        time.sleep(0.005 + 0.0001 * n)
        return np.asarray(X, dtype=np.float32).sum(axis=1)


def load():
    """The model. Says which process has it, and when it was loaded (reliability.py kills that process, and sees a reload)."""
    with open(f"{D}/computes", "w") as file:
        file.write(str(os.getpid()))
    return {"churn": Churn, "accel": Accel}[os.environ.get("BENCH_MODEL", "churn")]()
