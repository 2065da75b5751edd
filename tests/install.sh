#!/usr/bin/env bash
# Installs Debian packages that are missing; says what to do where it may not.
set -u
if [ "$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi
if ! command -v apt-get >/dev/null; then
    echo "please install: $*" >&2
    exit 3
fi
$sudo apt-get install -y -q "$@" >/dev/null 2>&1 || { $sudo apt-get update -q >/dev/null && $sudo apt-get install -y -q "$@"; }
