"""Launchers: where the jobs of suites and the workers of sweeps run, one a file, named as in `registry.yaml`."""
