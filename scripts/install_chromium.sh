#!/usr/bin/env bash
# Installs Debian's Chromium for the browser tests (tests/e2e), if this machine has none and allows it.
# Never fails: where Chromium is missing, those tests are skipped and say so.
set -euo pipefail

for browser in chromium chromium-browser google-chrome; do
  if command -v "$browser" >/dev/null; then
    exit 0
  fi
done
if [[ ${EUID} -eq 0 ]] && command -v apt-get >/dev/null; then
  echo "== Installing Chromium for the browser tests (once, about 100 MB)"
  export DEBIAN_FRONTEND=noninteractive
  if apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; then
    exit 0
  fi
fi
echo "There is no Chromium on this machine, so the browser tests will be skipped."
echo "On Debian or Ubuntu: sudo apt-get install chromium"
