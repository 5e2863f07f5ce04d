#!/bin/sh
# Prints a Python of the wanted version (3.13), from the PATH or from pyenv; else the one named second.
set -eu
wanted=$1
otherwise=$2

for candidate in "python$wanted" "$(pyenv root 2>/dev/null || echo "$HOME/.pyenv")/versions/$wanted".*/bin/python; do
    # pyenv's shims are on the PATH for versions that are not switched on, so ask and do not only look.
    if "$candidate" -c 'import venv' 2>/dev/null; then
        echo "$candidate"
        exit 0
    fi
done
echo "$otherwise"
