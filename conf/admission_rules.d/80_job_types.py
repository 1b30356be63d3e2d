"""Programs mark their jobs with types of their own, so any is accepted; a site may list those it wants."""

from oarpy.actions.admission import Refuse, Submission

# All that mean something to oarpy, by their names before "=" or ":".
KNOWN = {
    *("besteffort", "idempotent", "reassign", "noop", "cosystem", "deploy", "state", "token"),
    *("postpone", "deadline", "expire"),
    *("container", "inner", "timesharing", "placeholder", "allowed"),
}
# For example KNOWN, KNOWN - {"deploy"} or KNOWN | {"course"}.
ALLOWED: set[str] | None = None


def admit(submission: Submission) -> None:
    for each in submission.types:
        name = each.partition("=")[0].partition(":")[0]
        if ALLOWED is not None and name not in ALLOWED:
            raise Refuse(f"{name} is not a job type of this site; these are: {', '.join(sorted(ALLOWED))}")
