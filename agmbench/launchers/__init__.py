"""Launchers: they decide where the jobs of suites and the workers of sweeps run. Each file has one, with its name in `registry.yaml`."""
