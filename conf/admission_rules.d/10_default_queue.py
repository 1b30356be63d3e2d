"""A job that names no queue goes to the site's default queue."""

from oarpy.actions.admission import Submission


def admit(submission: Submission) -> None:
    if submission.queue is None:
        submission.queue = submission.site.default_queue
