"""One file a command: `pipelines.__main__` mounts each module's NAME, help, configure and run."""
