"""The shells around a job's command.

A **wrapper** is a small shell: it waits at its gate (a pipe; end of file means that it must
not run), writes ``begun``, runs the command as its user, and writes ``exit``.  It outlives the guard.
A job is over when its containment is empty; what is left in it is killed first.
"""

import os
import re
from functools import lru_cache
from typing import List, Optional

from .files import complain, trouble
from .host import find_program
from .spawning import spawn

# Descriptors of a wrapper: stdin, stdout, stderr, its gate, the guard's ear, its progress file.
GATE, EAR, PROGRESS = 3, 4, 5
# The wrapper.  What its gate lets through is the time since the boot, in seconds, from which on its lease is over, or
# nothing: guard and wrapper may stand still in between.
# Traps other than '' are reset in what it starts, so the job gets
# every signal's default while signals to the whole process group spare the wrapper.
# $1 entry, $2 files to join by, $3 what changes to the user, its words apart by one space, $4 the opening;
# the rest is the opening's.
# Where nothing has to be joined and nobody else to become, the wrapper opens the job's files itself:
# it then starts the command without copying itself first (a third of what the wrapper costs).
_HEAD = """
trap : HUP INT QUIT USR1 USR2 PIPE ALRM TERM TSTP TTIN TTOU VTALRM PROF XCPU XFSZ
read -r until <&3 || exit 0
exec 3<&-
read -r up rest </proc/uptime
[ -z "$until" ] || [ "${up%.*}" -lt "$until" ] || exit 0
echo "begun $up" >&5 || exit 0
echo "$1 $up" >&4
exec 4>&-
"""
_APART = """
(
for file in $2; do
  echo 0 >"$file" || { echo "error CPUSET_ERROR join" >&5; exit 1; }
done
"""
_AS_USER = """
change=$3 opening=$4
shift 4
exec $change -c "$opening" oarexec "$@"
"""
# Whoever opens them keeps its own stdout and stderr: a shell may speak of its children's deaths.
# A folder that bears the id of the job is made after the submission (submitit does that) or may, just made, not be seen
# here yet: the job may be quicker.
# $1 directory, $2 stdout, $3 stderr, $4 append or truncate, $5 umask, $6 shell; then what to execute.
_OPENING = """
unopened() {
  why=
  folder=.
  case $2 in /*) folder=/${2%/*} ;; */*) folder=${2%/*} ;; esac
  if [ -d "$2" ]; then why=directory
  elif [ -e "$2" ]; then [ -w "$2" ] || why=forbidden
  elif [ -d "$folder" ]; then { [ -w "$folder" ] && [ -x "$folder" ]; } || why=closed
  else
    why=absent
    while [ ! -e "$folder" ]; do
      case $folder in /*) folder=/${folder%/*} ;; */*) folder=${folder%/*} ;; *) folder=. ;; esac
    done
    if [ ! -d "$folder" ]; then why=file; elif [ ! -x "$folder" ]; then why=closed; fi
  fi
  echo "error OUTPUT_FILES $1 $why" >&5
  exit 1
}
umask "$5"
if ! cd -- "$1"; then
  if [ ! -e "$1" ]; then why=absent; elif [ ! -d "$1" ]; then why=file; else why=forbidden; fi
  echo "error WORKING_DIRECTORY $why" >&5; exit 1
fi 2>/dev/null
waited=0
for file in "$2" "$3"; do
  case $file in */*) ;; *) continue ;; esac
  while [ ! -d "${file%/*}/" ] && [ "$waited" -lt 3 ]; do
    sleep 1
    waited=$((waited + 1))
  done
done
if [ "$4" = truncate ]; then
  command exec 6>"$2" || unopened stdout "$2"
else
  command exec 6>>"$2" || unopened stdout "$2"
fi
if [ "$2" = "$3" ]; then
  exec 7>&6
elif [ "$4" = truncate ]; then
  command exec 7>"$3" || unopened stderr "$3"
else
  command exec 7>>"$3" || unopened stderr "$3"
fi
[ -x "$6" ] || { echo "error USER_SHELL shell" >&5; exit 1; }
shift 6
"""
_BECOME = """
exec "$@" >&6 2>&7 5>&- 6>&- 7>&-
"""
_APART_END = """
)
"""
_BESIDE = """
"$@" >&6 2>&7 5>&- 6>&- 7>&-
"""
_TAIL = """
status=$?
read -r up rest </proc/uptime
echo "exit $status $up" >&5
exit "$status"
"""
OPENING_AS_USER = _OPENING + _BECOME
WRAPPER_AS_USER = _HEAD + _APART + _AS_USER + _APART_END + _TAIL
WRAPPER_IN_GROUP = _HEAD + _APART + "shift 4" + OPENING_AS_USER + _APART_END + _TAIL
WRAPPER_ALONE = _HEAD + "shift 4" + _OPENING + _BESIDE + _TAIL
# A part runs nothing: this outlives the guard, and is nothing that its user could kill.
WRAPPER_OF_PART = _HEAD + "sleep 2147483647 5>&-" + _TAIL
# $1 files to join by; the rest is what to execute.
ENTERING = 'for file in $1; do echo 0 >"$file" || exit 1; done; shift; exec "$@"'
# Whoever stays when the rest of a job is told to end.
STAYING = "trap '' TERM; " + ENTERING
# Appends one line to a file that only the user may be able to reach.
NOTE = 'cd -- "$1" && echo "$3" >>"$2"'
# What a job's first bash reads (BASH_ENV), so that a batch job has what its user's shells have.
BASHRC = "unset BASH_ENV\nif [ -r ~/.bashrc ]; then . ~/.bashrc; fi\n"
# What may stand in the environment of a wrapper that runs as root; the job gets the rest after the change of user.
HARMLESS = re.compile(
    r"(OAR_[A-Z0-9_]*|OARSH_ACCESS|OARPY_JOB|HOME|PATH|SHELL|LOGNAME|USER|TERM|SHLVL|LANG|LC_[A-Z]+|SUDO_COMMAND)\Z"
)


# Nearly all jobs have the same variables.
@lru_cache(1000)
def harmless(name: str) -> bool:
    return HARMLESS.match(name) is not None


def chroot_as(uid: int, groups: str) -> List[str]:
    """Options of chroot(1) that only change the user; its numbers are not looked up."""
    numbers = ["+" + gid for gid in groups.split(",")]
    return ["--userspec=+%d:%s" % (uid, numbers[0]), "--groups=" + ",".join(numbers), "--skip-chdir", "/"]


def make_hidden_shell() -> Optional[str]:
    """Make ``sh`` in the current directory, a shell that users can execute and not read.

    The kernel lets nobody trace what runs such a file (ptrace(2)), so a user gets no hold of what it
    has open.  Only, whoever executes it must not be root any more, which setpriv still is in part and
    chroot is not: returns the path of that, None where all this does not work.
    """
    chroot = find_program("chroot")
    if chroot is None:
        return None
    try:
        with open("/bin/sh", "rb") as program, open("sh.new", "wb") as copy:
            copy.write(program.read())
        os.chmod("sh.new", 0o711)
        os.rename("sh.new", "sh")
        nobody = spawn([chroot, *chroot_as(65534, "65534"), "./sh", "-c", "[ ! -r ./sh ]"], {}, {})
    except OSError as error:
        complain("the shell that opens the files of jobs: %s" % trouble(error))
        return None
    return chroot if os.waitpid(nobody, 0)[1] == 0 else None
