#!/usr/bin/env bash
# Checks the types of the Python files that differ from the main branch, committed or not.
# `mypy` without arguments, part of `make test`, checks all.
set -euo pipefail
cd "$(dirname "$0")/.."

base=HEAD
for branch in origin/main main; do
  if merge_base=$(git merge-base HEAD "$branch" 2>/dev/null); then
    base=$merge_base
    break
  fi
done
mapfile -t files < <(
  { git diff --name-only --diff-filter=d "$base"; git ls-files --others --exclude-standard; } |
    grep -E '^(boxdrop|functions|infra|model_export|tests|benchmarks|examples)/.*\.py$' | sort -u
)
if [[ ${#files[@]} -eq 0 ]]; then
  echo "no Python file differs from the main branch"
  exit 0
fi
.venv/bin/mypy "${files[@]}"
