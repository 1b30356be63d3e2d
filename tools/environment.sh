# Sourced by tools/up, tools/test and .ci/run: makes the environment that they run in.
#
#   make_environment EXTRAS
#
# leaves in $bin the directory of a virtual environment in which oarpy is installed with
# EXTRAS (a comma-separated list).  What is there and up to date is left alone.

say() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

give_up() {
    say "$*"
    exit 1
}

# An account that has nothing to do with this repository: what it reaches, all users reach.
as_stranger() {
    setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@" 2>/dev/null
}

is_root() {
    [ "$(id -u)" -eq 0 ]
}

# Install packages of the system, or say which ones are missing.
need_packages() {
    if is_root && command -v apt-get >/dev/null; then
        say "installing $*"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq >&2 || say "apt-get update failed; trying with the package lists that are there"
        # A hundred lines that matter only when it fails.
        said=$(apt-get install -y -qq --no-install-recommends "$@" 2>&1) || {
            printf '%s\n' "$said" >&2
            give_up "apt-get could not install $*"
        }
    elif command -v apt-get >/dev/null; then
        give_up "this machine lacks $*; as root: apt-get install $*"
    else
        give_up "this machine lacks what Debian calls $*; install it with the system's package manager"
    fi
}

is_recent_python() {
    command -v "$1" >/dev/null && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# Leaves in $python one that is recent enough.  Users run what root installs, so root's must be
# one that they reach.
find_python() {
    for python in python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11; do
        if is_recent_python "$python"; then
            if ! is_root || as_stranger "$python" -c ''; then
                return
            fi
        fi
    done
    give_up "no python3 of version 3.11 or later is here that users can run; install one first"
}

make_environment() {
    extras=$1
    here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
    command -v setpriv >/dev/null || ! is_root || need_packages util-linux
    venv=$here/.venv
    editable=-e
    if is_root && ! as_stranger test -r "$here/oarpy/__init__.py"; then
        # A repository in root's own directory: users get a copy that they can reach.
        venv=/opt/oarpy/venv
        editable=
        mkdir -p /opt/oarpy
        [ -e "$here/.venv" ] || ln -s "$venv" "$here/.venv"
    fi
    bin=$venv/bin
    if ! "$bin/python" -c 'import pip' 2>/dev/null; then
        find_python
        "$python" -c 'import ensurepip, venv' 2>/dev/null || need_packages python3-venv
        say "making $venv"
        "$python" -m venv --clear "$venv" || give_up "$python could not make $venv"
    fi
    installed=$venv/installed-extras
    for extra in $(printf '%s' "$extras" | tr , ' '); do
        grep -qx "$extra" "$installed" 2>/dev/null || stale=yes
    done
    if [ -n "$editable" ]; then
        watched="$here/setup.cfg $here/pyproject.toml"
    else
        watched="$here/setup.cfg $here/pyproject.toml $here/oarpy $here/conf $here/migrations"
    fi
    # shellcheck disable=SC2086  # several paths, none of ours has a blank
    [ -e "$installed" ] && [ -z "$(find $watched -newer "$installed" -type f 2>/dev/null | head -n 1)" ] || stale=yes
    [ "${stale:-no}" = no ] && return
    say "installing oarpy and what it needs"
    # A build directory of an earlier installation would bring removed files back.
    rm -rf "$here/build"
    (cd "$here" && "$bin/python" -m pip install --quiet --disable-pip-version-check $editable ".[$extras]") ||
        give_up "pip could not install oarpy"
    # Users cannot write the compiled files of what root installs, and would compile at each start.
    [ -z "$editable" ] || "$bin/python" -m compileall -q "$here/oarpy" >&2
    printf '%s\n' "$extras" | tr , '\n' >>"$installed"
}
