"""Train the bench model: a churn-like XGBoost classifier on synthetic data, 20 float features."""

import sys, json, numpy as np, xgboost as xgb

rng = np.random.default_rng(0)
X = rng.normal(size=(20000, 20)).astype("float32")
y = (X[:, 0] * 1.3 - X[:, 1] + 0.5 * X[:, 2] * X[:, 3] + rng.normal(scale=0.5, size=20000) > 0).astype(int)
m = xgb.XGBClassifier(n_estimators=100, max_depth=4, n_jobs=1, tree_method="hist").fit(X, y)
m.save_model(sys.argv[1] + "/churn.ubj")
body = {f"f{i}": round(float(v), 4) for i, v in enumerate(X[0])}
json.dump(body, open(sys.argv[1] + "/body.json", "w"))
json.dump(
    {"inputs": [{"name": "x", "shape": [1, 20], "datatype": "FP32", "data": [round(float(v), 4) for v in X[0]]}]},
    open(sys.argv[1] + "/v2.json", "w"),
)
json.dump({"input": body}, open(sys.argv[1] + "/bento.json", "w"))
json.dump({"input": [body]}, open(sys.argv[1] + "/bento_batch.json", "w"))
print(m.predict_proba(X[:1])[0, 1])
