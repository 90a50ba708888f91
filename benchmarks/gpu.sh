#!/bin/sh
# What a machine with a GPU that is there for ten minutes is used for: benchmarks/gpu.sh OUT [--wheels FOLDER] [options of gpu.py]
#
# It runs in the python3 at hand (or the one that PYTHON names) and needs no network. Packages that this Python lacks travel as wheels, in the folder
# .wheels of the checkout or the one after --wheels. On a machine with a network, for Python 3.12 on x86-64:
#
#   python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
#     --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 -d .wheels \
#     jsonschema jsonschema-specifications referencing rpds-py attrs pooch platformdirs threadpoolctl filelock \
#     tqdm nvidia-ml-py psutil keras==3.15.1 namex optree tinygrad==0.14.0
#
# The harness itself needs numpy, pyarrow, pyyaml, typer, rich, packaging and requests besides.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
wheels=$root/.wheels
PYTHON=${PYTHON:-python3}

# Takes --wheels FOLDER out of the arguments.
next=
for word do
  shift
  case $next$word in
    --wheels) next=wheels: ;;
    wheels:*) wheels=$word next= ;;
    *) set -- "$@" "$word" ;;
  esac
done
case ${1:-} in
  ''|-*) exec env PYTHONPATH="$root/python" "$PYTHON" "$root/benchmarks/gpu.py" "${1:---help}" ;;
esac
mkdir -p "$1/work"
work=$(cd "$1/work" && pwd)

# What libraries cache belongs to this folder; the home of such a machine may be read-only.
export XDG_CACHE_HOME="$work/cache"
[ -w "${HOME:-/nowhere}" ] || { export HOME="$work/home"; mkdir -p "$HOME"; }

path=$root/python
names=$(cd "$wheels" 2>/dev/null && ls ./*.whl 2>/dev/null) || true
if [ -n "$names" ]; then
  if [ "$names" != "$(cat "$work/site/installed" 2>/dev/null)" ]; then
    rm -rf "$work/site"
    "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --disable-pip-version-check --target "$work/site" "$wheels"/*.whl
    echo "$names" > "$work/site/installed"
  fi
  path=$path:$work/site
fi
PYTHONPATH=$path${PYTHONPATH:+:$PYTHONPATH} exec "$PYTHON" "$root/benchmarks/gpu.py" "$@"
