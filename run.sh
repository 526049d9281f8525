#!/usr/bin/env bash
# One entry point: sets up its own environment in .venv on first use, then tests, trains or runs a suite.
# `./run.sh help` lists the commands. Works from any directory; what it installs is pinned in constraints.txt.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
venv=$root/.venv
python=$venv/bin/python

die() { # die STATUS MESSAGE...
  local status=$1
  shift
  printf 'run.sh: %s\n' "$@" >&2
  exit "$status"
}

suites() { # "  name   description" for each suite file
  local file description
  for file in "$root"/configs/suite/*.yaml; do
    [[ -e $file ]] || continue
    description=$(sed -n -e '/^description:/{' -e "s/^description:[[:space:]]*[\"']*//" -e "s/[\"']*\$//" -e 'p;q' -e '}' "$file")
    printf '  %-18s %s\n' "$(basename "$file" .yaml)" "$description"
  done
}

help() {
  cat <<'TEXT'
Usage: ./run.sh COMMAND [arguments]

  help               this text
  setup              install or update .venv (every other command does so when it must)
  test [ARGS]        lint, format, types and tests; ARGS go to pytest, which without any takes two
                     processes
  gpu [ARGS]         measure this machine's GPU: `fpmd bench campaign gpu ARGS`; --minutes 10 ends in time,
                     --rehearse runs every cell at toy size on the CPU
  fpmd ARGS          the command line of the trainer, e.g. ./run.sh fpmd train --help
  SUITE [ARGS]       run configs/suite/SUITE.yaml: `fpmd suite SUITE ARGS`

Suites:
TEXT
  local found
  found=$(suites)
  printf '%s\n' "${found:-  (none)}"
  cat <<'TEXT'

FPMD_PYTHON=/path/to/python chooses the interpreter (3.11 or 3.12).
TEXT
}

supported() { # is $1 a Python that this project supports? (a pyenv shim may exist and still not run)
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null
}

find_python() {
  local candidate
  if [[ -n ${FPMD_PYTHON:-} ]]; then
    supported "$FPMD_PYTHON" || die 1 "FPMD_PYTHON=$FPMD_PYTHON is not a Python 3.11 or 3.12."
    printf '%s\n' "$FPMD_PYTHON"
    return
  fi
  for candidate in python3.12 python3.11 python3; do
    if supported "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  die 1 "needs Python 3.12 or 3.11, and found neither on PATH." \
    "Install one, or name it: FPMD_PYTHON=/path/to/python3.12 ./run.sh setup"
}

install() { # install EXTRAS: into .venv, made if it is missing or broken or of another Python
  local base want pip
  base=$(find_python)
  want=$("$base" -c 'import sys; print(*sys.version_info[:2], sep=".")')
  if [[ $("$python" -c 'import sys; print(*sys.version_info[:2], sep=".")' 2>/dev/null) != "$want" ]]; then
    printf 'run.sh: making .venv with Python %s\n' "$want" >&2
    rm -rf -- "$venv"
    if command -v uv >/dev/null; then
      uv venv --quiet --python "$base" "$venv"
    else
      "$base" -m venv "$venv"
    fi
  fi
  if command -v uv >/dev/null; then
    pip=(uv pip install --quiet --python "$python")
  else
    # A .venv that uv made has no pip.
    "$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip >/dev/null
    pip=("$python" -m pip install --quiet --disable-pip-version-check)
  fi
  printf 'run.sh: installing fpmd-mjx[%s] into .venv (minutes on the first use)\n' "$1" >&2
  (cd -- "$root" && "${pip[@]}" -c constraints.txt -e ".[$1]")
}

setup() { # brings .venv up to date; the stamp is written last, so an interrupted install is repeated
  local extras=dev stamp=$venv/fpmd-stamp state
  if [[ $(nvidia-smi -L 2>/dev/null) == GPU\ * ]]; then
    extras=dev,gpu
  fi
  # The editable install holds the path of the repository: a moved one is installed again.
  state="$(cksum <"$root/pyproject.toml") $(cksum <"$root/constraints.txt") [$extras] ${FPMD_PYTHON:-} $root"
  if [[ -x $python && $(cat "$stamp" 2>/dev/null) == "$state" ]]; then
    return
  fi
  rm -f -- "$stamp"
  install "$extras"
  printf '%s\n' "$state" >"$stamp"
}

locked_setup() { # two runs started together must not install into .venv at once
  (
    if command -v flock >/dev/null; then
      flock 9
    fi
    setup
  ) 9>"$root/.venv.lock"
}

run_tests() { # every check runs, whatever the ones before it found
  export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/fpmd_mjx/xla}
  cd -- "$root"
  # Most of the time is XLA compiling, on one core each; a file's tests share what they compile.
  # A process that crashed is not replaced: the new one would run the same test, and may wait for ever.
  (($#)) || set -- --numprocesses 2 --dist loadfile --max-worker-restart 0
  local failed=()
  "$python" -m ruff check . || failed+=("ruff check (try: .venv/bin/ruff check --fix)")
  "$python" -m ruff format --check . || failed+=("ruff format (try: .venv/bin/ruff format)")
  "$python" -m mypy || failed+=(mypy)
  "$python" -m pytest "$@" || failed+=(pytest)
  if ((${#failed[@]})); then
    die 1 "${failed[@]/#/failed: }"
  fi
}

command=${1-help}
shift || true
case $command in
  help | -h | --help) help ;;
  setup) locked_setup ;;
  test)
    locked_setup
    run_tests "$@"
    ;;
  fpmd)
    locked_setup
    exec "$python" -m fpmd_mjx.cli "$@"
    ;;
  gpu)
    locked_setup
    exec "$python" -m fpmd_mjx.cli bench campaign gpu "$@"
    ;;
  *)
    if [[ $command == */* || ! -f $root/configs/suite/$command.yaml ]]; then
      die 2 "no command or suite named '$command'." \
        "Suites are the files in configs/suite; './run.sh help' lists them all."
    fi
    locked_setup
    exec "$python" -m fpmd_mjx.cli suite "$command" "$@"
    ;;
esac
