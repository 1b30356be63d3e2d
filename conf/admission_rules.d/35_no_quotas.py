"""Quotas bind no job of the queue admin; nobody else may ask for that."""

from oarpy.actions.admission import Refuse, Submission

QUEUE = "admin"
TYPE = "no_quotas"


def admit(submission: Submission) -> None:
    if submission.queue == QUEUE:
        if not submission.has_type(TYPE):
            submission.types.append(TYPE)
    elif submission.has_type(TYPE):
        raise Refuse(f"the type {TYPE} is for jobs of the queue {QUEUE}")
