"""The system that ReFrame runs on: this one, by oarsub."""

site_configuration = {
    "systems": [
        {
            "name": "oarpy",
            "hostnames": [".*"],
            "partitions": [
                {"name": "default", "scheduler": "oar", "launcher": "local", "environs": ["builtin"], "max_jobs": 4}
            ],
        }
    ],
    "environments": [{"name": "builtin"}],
}
