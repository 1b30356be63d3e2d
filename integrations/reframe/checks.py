"""One check that passes, one that fails because its job does, one whose job is longer than it may be."""

import reframe as rfm
import reframe.utility.sanity as sn


class Job(rfm.RunOnlyRegressionTest):
    valid_systems = ["*"]
    valid_prog_environs = ["*"]
    time_limit = "10m"


@rfm.simple_test
class Hello(Job):
    executable = "echo hello from job $OAR_JOB_ID"

    @sanity_function
    def it_says_so(self):
        return sn.assert_found(r"hello from job \d+", self.stdout)


@rfm.simple_test
class Status(Job):
    """The exit status of a job is seen."""

    executable = "exit 3"

    @sanity_function
    def it_is_three(self):
        # What ReFrame has of oarstat is the raw status of wait.
        return sn.assert_eq(self.job.exitcode, 3 << 8)


@rfm.simple_test
class TooLong(Job):
    """A job that is over its walltime is over."""

    executable = "sleep 300"
    time_limit = "3s"

    @sanity_function
    def it_was_killed(self):
        return sn.assert_ne(self.job.exitcode, 0)
