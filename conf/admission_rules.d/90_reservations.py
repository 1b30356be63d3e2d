"""Advance reservations: none for best-effort jobs, and few for one user."""

from oarpy.actions.admission import Refuse, Submission


def admit(submission: Submission) -> None:
    if submission.reservation is None:
        return
    if submission.has_type("besteffort"):
        raise Refuse("a best-effort job cannot be an advance reservation")
    if submission.reservations_left <= 0:
        most = submission.site.max_waiting_reservations
        raise Refuse(f"only {most} advance reservations of one user may wait for their start")
