"""Properties that the system keeps for itself are no levels of a request; filters may name them."""

from oarpy.actions.admission import Refuse, Submission

SYSTEM = {
    "type",
    "state",
    "drain",
    "besteffort",
    "deploy",
    "available_upto",
    "scheduler_priority",
    "quantity",
    "cpuset",
}


def admit(submission: Submission) -> None:
    for group in submission.groups:
        for level in group.levels:
            if level.property in SYSTEM:
                raise Refuse(f"{level.property} cannot be asked for with -l; use -p or braces to filter by it")
