"""Launchers: where the jobs of suites and the workers of sweeps run, one per file, named as in `registry.yaml`."""
