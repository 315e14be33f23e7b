#!/bin/sh
# Installs quantpay from the wheels beside this file, without any package index: sh install.sh [PYTHON]
# PYTHON is the one of the environment to install into, such as .venv/bin/python (default: python3).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${1:-python3}
unset PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS
export PIP_CONFIG_FILE=/dev/null PIP_NO_INDEX=1 PIP_DISABLE_PIP_VERSION_CHECK=1
head -n 1 "$here/requirements.txt"
"$python" --version
if ! "$python" -m pip install --quiet --dry-run --find-links "$here" quantpay; then
    echo "error: these wheels do not fit this Python, or it lacks torch (make wheelhouse WHEELHOUSE_TORCH=yes);" \
        "if only setuptools is missed, a venv's old one hides the node's: $python -m pip uninstall setuptools" >&2
    exit 1
fi
"$python" -m pip install --no-deps --require-hashes --requirement "$here/requirements.txt" --find-links "$here"
