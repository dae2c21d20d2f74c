#!/usr/bin/env bash
# Makes the peers' environments (pinned) and the bench's model in $BENCH_DIR (default benchmarks/.bench). Needs uv, wrk.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=${BENCH_DIR:-$here/.bench}
PATH=$PATH:$here/../.tools/bin
mkdir -p "$dir" "$here/service/model" "$here/accel/model"

environment() {
  local name=$1
  shift
  [ -x "$dir/$name/bin/python" ] && return
  echo "installing the peers of $name"
  uv venv -q -p 3.11 "$dir/$name"
  uv pip install -q -p "$dir/$name/bin/python" "$@"
}

environment fastapi fastapi==0.165.0 'uvicorn[standard]==0.54.0' litestar==2.25.0 msgspec==0.22.0 xgboost==3.2.0 scikit-learn==1.9.1
if [ "${1:-}" != --small ]; then
  environment bento bentoml==1.4.39 xgboost==3.2.0 scikit-learn==1.9.1
  # the documents service in BentoML: the wheel for its models alone (its own opencv-python wants a screen's libraries)
  if ! "$dir/bento/bin/python" -c 'import importlib.metadata as m; m.version("rapidocr-onnxruntime")' 2>/dev/null; then
    uv pip install -q -p "$dir/bento/bin/python" bentoml==1.4.39 onnxruntime==1.31.1 opencv-python-headless==5.0.0.93 pillow==13.0.0 msgspec==0.22.0
    uv pip install -q --no-deps -p "$dir/bento/bin/python" rapidocr-onnxruntime==1.4.4
  fi
  "$dir/bento/bin/python" "$here/../services/documents/fetch.py" "$dir/documents"
  environment litserve litserve==0.2.19 xgboost==3.2.0 scikit-learn==1.9.1
  environment mlserver mlserver==1.7.1 'uvloop<0.22' xgboost==3.2.0 scikit-learn==1.9.1
  environment ray 'ray[serve]==2.60.0' xgboost==3.2.0 scikit-learn==1.9.1
fi
[ -f "$dir/churn.ubj" ] || "$dir/fastapi/bin/python" "$here/peers/train.py" "$dir"
cp "$dir/churn.ubj" "$here/service/model/churn.ubj"
rm -rf "$dir/service-off" && cp -r "$here/service" "$dir/service-off" # ours with batching switched off
sed -i.bak 's/^max_rows = .*/batching = false/' "$dir/service-off/slipway.toml"
rm -rf "$dir/service-pool" && cp -r "$here/service" "$dir/service-pool" # ours through a runner pool
echo 'pool = { replicas = 1 }' >>"$dir/service-pool/slipway.toml"
"$here/../.venv/bin/python" "$here/watched.py" # ours with traces, drift and capture on, together and each alone
printf '\x60\0\0\0\0\0\0\0%-96s\0\0\0\0' '{"nothing":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}' >"$here/accel/model/nothing.safetensors"
echo "ready: $dir"
