"""Functions as jobs by submitit: a result, an array, an exception, a job that is cancelled."""

import time

import submitit


def product(a: int, b: int) -> int:
    return a * b


def fail() -> None:
    raise ValueError("as it should")


if __name__ == "__main__":
    executor = submitit.AutoExecutor(folder="submitit_logs/%j", cluster="oar")
    executor.update_parameters(
        name="submitit", timeout_min=10, oar_cores=1, oar_additional_parameters={"project": "demo"}
    )

    def over(job: submitit.Job) -> submitit.Job:
        while job.watcher.get_state(job.job_id, mode="force") not in ("COMPLETED", "FAILED"):
            time.sleep(0.3)
        return job

    job = executor.submit(product, 6, 7)
    assert over(job).result() == 42

    jobs = executor.map_array(product, [1, 2, 3], [10, 20, 30])
    assert sorted(over(job).result() for job in jobs) == [10, 40, 90]

    failed = over(executor.submit(fail))
    assert "as it should" in str(failed.exception())

    sleeper = executor.submit(time.sleep, 300)
    while sleeper.watcher.get_state(sleeper.job_id, mode="force") != "RUNNING":
        time.sleep(0.3)
    sleeper.cancel()
    over(sleeper)
    assert sleeper.state == "FAILED"
    print("all went well")
