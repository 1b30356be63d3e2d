"""What execo_g5k asks of a batch system: submit, wait for the start, the hosts, information, delete."""

import os
import time

# execo_g5k reads all dates as Paris time, so the commands that it starts must write them so.
os.environ["TZ"] = "Europe/Paris"
time.tzset()

from execo_g5k.config import g5k_configuration
from execo_g5k.oar import (
    OarSubmission,
    get_current_oar_jobs,
    get_oar_job_info,
    get_oar_job_nodes,
    oardel,
    oarsub,
    wait_oar_job_start,
)

g5k_configuration["polling_interval"] = 1

asked = OarSubmission("core=1", walltime="0:10:00", name="from execo", project="demo", command="sleep 300")
((job_id, _),) = oarsub([(asked, None)])
assert job_id is not None
assert wait_oar_job_start(job_id, timeout=60)

information = get_oar_job_info(job_id)
print(information)
assert information["state"] == "Running"
assert information["walltime"] == 600
assert information["name"] == "from execo"
assert abs(information["start_date"] - time.time()) < 60
assert (job_id, None) in get_current_oar_jobs()
print("runs on", get_oar_job_nodes(job_id))

oardel([(job_id, None)])
while (job_id, None) in get_current_oar_jobs():
    time.sleep(0.2)
assert get_oar_job_info(job_id)["state"] == "Error"

# A reservation, ten minutes from now.
reserved = OarSubmission("core=1", walltime="0:10:00", reservation_date=time.time() + 600)
((job_id, _),) = oarsub([(reserved, None)])
assert 540 < get_oar_job_info(job_id)["scheduled_start"] - time.time() < 610
oardel([(job_id, None)])

# A submission that is refused has no id.
((job_id, _),) = oarsub([(OarSubmission("core=1", queue="no-such-queue", command="true"), None)])
assert job_id is None
print("all went well")
