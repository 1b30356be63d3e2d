"""Best-effort is a queue, a type, and resources that allow it: one brings the others."""

from oarpy.actions.admission import Submission


def admit(submission: Submission) -> None:
    if submission.has_type("besteffort"):
        if submission.queue not in ("besteffort", submission.site.default_queue):
            submission.warn(f"a job of type besteffort goes to the queue besteffort, not {submission.queue}")
        submission.queue = "besteffort"
    elif submission.queue == "besteffort":
        submission.types.append("besteffort")
    if submission.queue == "besteffort":
        submission.require("besteffort = 'YES'")
