"""Clusters on this machine for tests: Slurm with one node, and Ray with a head and nodes. A test starts the one that it needs."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path

import pytest
from conftest import PATIENCE, children

SLURM = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")
CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=6
SlurmctldPort={controller}
SlurmdPort={node}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000,sched_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MinJobAge=3600
KillWait=20
ReturnToService=2
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=low Nodes=n1 Default=YES PriorityTier=1 State=UP
PartitionName=high Nodes=n1 PriorityTier=10 State=UP
"""


def until(found: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait until `found()` is true. Fail with the text `what` if it takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return found


class Slurm:
    """A controller and a node of four cores, with partitions `low` and `high`; `high` preempts `low`. It needs no systemd or cgroups."""

    def __init__(self) -> None:
        if missing := [name for name in SLURM if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]:
            pytest.skip(f"no {missing[0]} on this machine: apt-get install slurm-wlm munge")
        if os.geteuid():
            pytest.skip("a node of Slurm is started by root alone")
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        controller, node = ports(2)
        host = socket.gethostname().partition(".")[0]
        file = self.folder / "slurm.conf"
        file.write_text(CONFIGURATION.format(host=host, folder=self.folder, controller=controller, node=node))
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self.environment = {"SLURM_CONF": str(file)}
        places = [f"--{name}={self.folder}/munge.{name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
        self.daemons: list[subprocess.Popen[bytes]] = []
        self._start("munged", "--foreground", "--force", f"--key-file={key}", *places)
        until((self.folder / "munge.socket").exists, "munged has made no socket")
        self._start("slurmctld", "-D")
        self._start("slurmd", "-D", "-N", "n1")
        until(lambda: "idle" in self.said("sinfo", "-h", "-o", "%t"), f"no node came up; see {self.folder}")

    def _start(self, *words: str) -> None:
        path = {"PATH": f"{os.environ['PATH']}:/usr/sbin"}
        with (self.folder / f"{words[0]}.out").open("wb") as out:
            self.daemons.append(subprocess.Popen(words, env={**os.environ, **path, **self.environment}, stdout=out, stderr=out))

    def said(self, *words: str, script: str = "") -> str:
        environment = {**os.environ, **self.environment}
        return subprocess.run(words, env=environment, input=script, capture_output=True, text=True, check=False).stdout

    def jobs(self, state: str = "all") -> list[str]:
        """The numbers of the jobs in the queue."""
        return self.said("squeue", "-h", f"--states={state}", "-o", "%A").split()

    def stop(self) -> None:
        self.said("scancel", "--user=root")
        with suppress(AssertionError):
            until(lambda: not self.jobs("running,completing"), "jobs that do not end")
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            daemon.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)


class Ray:
    """A head without cores and two nodes of one core each. `environment` is added to the environment of all of them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        pytest.importorskip("ray", reason="ray is not installed: pip install 'agmbench[ray]'")
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        (port,) = ports(1)
        self.address = f"127.0.0.1:{port}"
        self.started: list[subprocess.Popen[bytes]] = []
        self._start(
            "head", "--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={self.folder}"
        )
        until(lambda: _answers(port), f"the head of Ray does not answer; see {self.folder}")
        self.nodes = [self._node(f"node{n}") for n in (1, 2)]

    def _node(self, name: str) -> "subprocess.Popen[bytes]":
        """Start a node and wait until it is up. On a busy machine the first try may be too slow for Ray, so there are three."""
        for _ in range(3):
            node, out = self._start(name, f"--address={self.address}", "--num-cpus=1"), self.folder / f"{name}.out"
            until(
                lambda node=node, out=out: node.poll() is not None or "runtime started" in out.read_text(),
                "no node of Ray came up",
            )
            if node.poll() is None:
                return node
        raise AssertionError(f"no node of Ray comes up: {out.read_text()[-2000:]}")

    def _start(self, name: str, *words: str) -> "subprocess.Popen[bytes]":
        small = ("--object-store-memory=80000000", "--disable-usage-stats", "--block")
        with (self.folder / f"{name}.out").open("wb") as out:
            one = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", "start", *words, *small],
                env={
                    **os.environ,
                    **self.environment,
                    "RAY_memory_monitor_refresh_ms": "0",  # other tests may fill this machine's memory
                    "RAY_worker_niceness": "0",  # other tests may take all cores, and at Ray's niceness of 15 no job would begin
                },
                stdout=out,
                stderr=out,
            )
        self.started.append(one)
        return one

    def kill(self, node: "subprocess.Popen[bytes]") -> None:
        """Kill the raylet of a node by SIGKILL, as if its machine were switched off."""
        for process in children(node.pid):
            if "raylet/raylet" in command(process):
                os.kill(process, signal.SIGKILL)
                return
        raise AssertionError("there is no raylet")

    def stop(self) -> None:
        everybody = {process for one in self.started for process in children(one.pid)}
        for one in self.started:
            one.terminate()
        for one in self.started:
            with suppress(subprocess.TimeoutExpired):
                one.wait(30)
        for process in everybody | {one.pid for one in self.started}:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


def _answers(port: int) -> bool:
    with suppress(OSError), closing(socket.create_connection(("127.0.0.1", port), 1)):
        return True
    return False


def command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""
