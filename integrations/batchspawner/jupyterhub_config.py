"""A hub for trying: whoever gives the password "oarpy" is let in as the account that he names."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# Without this import the hub does not know where notebook servers tell their port.
import batchspawner
from oarspawner import OarSpawner

c = get_config()
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = "oarpy"
c.Authenticator.allow_all = True
# Notebook servers are on other hosts, and must reach the hub.
c.JupyterHub.hub_ip = "0.0.0.0"
c.JupyterHub.spawner_class = OarSpawner
# An instance that is not where oarpy looks by itself.
c.Spawner.env_keep = ["PATH", "LANG", "LC_ALL", "OARPY_HOME"]
c.OarSpawner.req_runtime = "1:0:0"
# For programs that start servers without a person: see docs/integrations/batchspawner.md.
c.JupyterHub.services = [{"name": "starter", "api_token": "only-for-trying-0123456789"}]
c.JupyterHub.load_roles = [
    {"name": "starter", "services": ["starter"], "scopes": ["admin:users", "admin:servers", "access:servers"]}
]
