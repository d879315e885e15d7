# Makes .venv fit the lock file; sourced by ops/run and ops/test with $mode (run or test) and $here (the folder ops) set.
# Afterwards $project is set. Everything it makes lies in .boot and .venv below the project; a second time takes a blink.

uv_version=0.13.9
oldest_python=3.11
project="$(cd -- "$here/.." && pwd)"
boot="$project/.boot"
log="$boot/prepare.log"
# A stranger's settings for Python or uv must not steer what is installed here.
unset PYTHONHOME PYTHONPATH VIRTUAL_ENV

die() {
  printf '%s\n' "$1" >&2
  exit "${2:-1}"
}

check_places() {
  if ! { mkdir -p "$boot" && : >"$boot/.writable"; } 2>/dev/null; then
    die "$project cannot be written to (read-only, another owner, or the disk is full): make room or copy the project to a folder of yours." 73
  fi
  if [ -z "${HOME:-}" ] || ! [ -d "$HOME" ] || ! [ -w "$HOME" ]; then
    export HOME="$boot/home" UV_CACHE_DIR="$boot/cache/uv" PIP_CACHE_DIR="$boot/cache/pip" XDG_CACHE_HOME="$boot/cache"
    mkdir -p "$HOME" "$XDG_CACHE_HOME"
  fi
}

# Sets $python (a real path, not a shim) and $fingerprint (of all that decides what must be installed).
find_python() {
  local probe candidate found
  probe='
import hashlib, sys
if sys.version_info < tuple(map(int, sys.argv[1].split("."))): sys.exit(1)
digest = hashlib.sha256(sys.executable.encode())
for name in sys.argv[2:]:
    with open(name, "rb") as file: digest.update(file.read())
print(sys.executable, digest.hexdigest(), sep="\n")'
  for candidate in python3.11 python3.12 python3.13 python3; do
    if found="$("$candidate" -I -c "$probe" "$oldest_python" "$project/uv.lock" "$project/pyproject.toml" 2>/dev/null)"; then
      python="${found%$'\n'*}" fingerprint="${found##*$'\n'}"
      return
    fi
  done
  die "Python $oldest_python or newer is not on PATH: install it (Debian 12, Ubuntu 24.04 and newer: apt install python3 python3-pip; macOS: brew install python; elsewhere: pyenv install 3.12) and run this again." 69
}

# why WHAT: one line for the person, made from the log.
why() {
  local free_kilobytes
  free_kilobytes="$(df -Pk "$project" 2>/dev/null | awk 'NR == 2 { print $4 }')"
  # uv may also be aborted by a full disk before it can say so.
  if grep -qiE 'no space left|disk quota' "$log" || [ "${free_kilobytes:-99999}" -lt 10240 ]; then
    die "$1: the disk is full; make room (about 600 MB) and run this again. Details: $log" 74
  elif grep -qiE 'certificate|issuer' "$log"; then
    die "$1: the certificate of the package index (or of a proxy before it) is not trusted; set SSL_CERT_FILE to your CA file, or UV_SYSTEM_CERTS=1, and run this again. Details: $log" 69
  elif grep -qiE 'dns|connect|resolve|network|timed out|unreachable|proxy|certificate|tls|no matching distribution' "$log"; then
    die "$1: the package index is not reached; check the network or proxy and run this again. Details: $log" 69
  fi
  die "$1. Details: $log" 70
}

install_uv() {
  [ -x "$boot/bin/uv" ] && [ -d "$boot/uv-$uv_version.dist-info" ] && return
  "$python" -m pip --version >/dev/null 2>&1 ||
    die "$python has no pip: install it (Debian, Ubuntu: apt install python3-pip; else: $python -m ensurepip) and run this again." 69
  printf 'Fetching the installer (uv %s) …\n' "$uv_version" >&2
  "$python" -m pip install --quiet --disable-pip-version-check --upgrade --target "$boot" "uv==$uv_version" >"$log" 2>&1 ||
    why "The installer uv could not be fetched"
}

# The client of Infisical is large, so only who has an identity there gets it; tests talk to a stand-in through it.
uses_infisical() {
  [ "$mode" = test ] || [ -n "${INFISICAL_CLIENT_ID:-}" ] ||
    grep -qsE '^[[:space:]]*(export[[:space:]]+)?INFISICAL_CLIENT_ID=' "${UA_DOTENV_PATH:-$project/.env}"
}

# A run is content with what a test has installed; so it never takes the test tools away (--inexact).
is_prepared() {
  local stamp
  [ -x "$project/.venv/bin/corporation" ] && stamp="$(cat "$boot/stamp" 2>/dev/null)" || return 1
  case "$stamp" in
    "$fingerprint test") true ;;
    "$fingerprint run infisical") [ "$mode" = run ] ;;
    "$fingerprint run") [ "$mode" = run ] && ! uses_infisical ;;
    *) false ;;
  esac
}

sync_packages() {
  local groups=(--no-default-groups --inexact) extras=(--extra embedded) made=$mode
  [ "$mode" = test ] && groups=(--group dev)
  if uses_infisical; then
    extras+=(--extra infisical)
    [ "$mode" = test ] || made="$mode infisical"
  fi
  printf 'Installing the packages of uv.lock into .venv …\n' >&2
  rm -f "$boot/stamp"
  # In braces, so that the shell's own remark on a killed uv goes into the log as well.
  {
    UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT="$project/.venv" "$boot/bin/uv" sync --quiet --frozen --no-config \
      --project "$project" --python "$python" "${extras[@]}" "${groups[@]}"
  } >"$log" 2>&1 || why "The packages could not be installed"
  printf '%s\n' "$fingerprint $made" >"$boot/stamp"
}

check_places
find_python
if ! is_prepared; then
  exec 9>"$boot/lock"
  # Two at once: the second waits, then finds the work done. Without flock (macOS) uv's own locks must do.
  if command -v flock >/dev/null; then flock 9; fi
  if ! is_prepared; then
    install_uv
    sync_packages
  fi
  exec 9>&- # else the lock would live as long as what is started now
fi
