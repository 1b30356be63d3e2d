"""Accounts of the system have no jobs."""

from oarpy.actions.admission import Refuse, Submission

FORBIDDEN = {"root", "oar"}


def admit(submission: Submission) -> None:
    if submission.user in FORBIDDEN:
        raise Refuse(f"{submission.user} is not allowed to submit jobs; use an ordinary account")
