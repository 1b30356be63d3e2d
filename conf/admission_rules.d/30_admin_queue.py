"""The queue admin is for the members of a unix group."""

from oarpy.actions.admission import Refuse, Submission

QUEUE = "admin"
GROUP = "admin"


def admit(submission: Submission) -> None:
    if submission.queue == QUEUE and GROUP not in submission.unix_groups:
        raise Refuse(f"only members of the group {GROUP} can submit jobs to the queue {QUEUE}")
