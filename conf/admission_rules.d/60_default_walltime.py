"""A job that names no walltime gets the site's default."""

from oarpy.actions.admission import Submission


def admit(submission: Submission) -> None:
    for alternative in submission.alternatives:
        if alternative.walltime is None:
            alternative.walltime = submission.site.default_walltime
