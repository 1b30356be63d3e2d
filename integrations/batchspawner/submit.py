"""Submit the script on stdin as a job that has the variables named in the first argument, and nobody else sees them.

A job of OAR's begins with the environment of a login, and what oarsub is given can be read by everybody.  So the
script, with the values before its commands, becomes a file of its owner's, which the job removes when it begins.
"""

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

# These are the node's own.
NOT_KEPT = {"HOME", "USER", "LOGNAME", "SHELL"}

names = [name for name in sys.argv[1].split(",") if name in os.environ and name not in NOT_KEPT]
place = Path.home() / ".jupyterhub"
place.mkdir(mode=0o700, exist_ok=True)
# Readable by its owner alone, as mkstemp makes it.
descriptor, path = tempfile.mkstemp(dir=place, suffix=".sh")
first, _, rest = sys.stdin.read().partition("\n")
with open(descriptor, "w") as file:
    print(
        first, 'rm -f "$0"', *(f"export {name}={shlex.quote(os.environ[name])}" for name in names), sep="\n", file=file
    )
    file.write(rest)
os.chmod(path, 0o700)
status = subprocess.run(["oarsub", "-S", path], check=False).returncode
if status:
    os.unlink(path)
sys.exit(status)
