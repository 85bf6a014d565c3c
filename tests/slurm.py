"""A Slurm of one's own on this machine: two nodes of two stand-in GPUs each, on loopback, that end
with the command given.

    python -m tests.slurm make all PROFILE=smoke -j4 LAUNCH="srun --gpus=1 --cpus-per-task=1"

Needs Debian's slurm-wlm and nothing of its configuration; leaves no daemon, port or file behind.
"""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = "slurmctld", "slurmd", "srun", "sbatch", "squeue", "scancel", "scontrol", "setpriv"
NODES = "n1", "n2"
CONFIGURATION = """
ClusterName=basins
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/none
CredType=cred/none
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser={user}
SlurmdUser={user}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
KillWait=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing():
    """The first of the programs that this machine lacks, or None."""
    return next((name for name in PROGRAMS if not shutil.which(name, path=path())), None)


def path():
    """PATH with where daemons are, which is not in every user's."""
    return os.environ["PATH"] + ":/usr/sbin:/sbin"


def free_ports(count):
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@contextmanager
def cluster(timeout=60):
    """The environment in which Slurm's commands find the cluster, once both nodes are idle.

    RuntimeError with its logs if that takes too long.
    """
    with ExitStack() as leaving:
        folder = Path(leaving.enter_context(tempfile.TemporaryDirectory(prefix="slurm-")))
        ports, host = free_ports(1 + len(NODES)), socket.gethostname().split(".")[0]
        lines = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 "
            "RealMemory=4000 Gres=gpu:2 State=UNKNOWN"
            for node, port in zip(NODES, ports[1:])
        ]
        (folder / "slurm.conf").write_text(
            "\n".join(lines)
            + CONFIGURATION.format(
                ports=ports, user=pwd.getpwuid(os.getuid()).pw_name, folder=folder
            )
        )
        (folder / "gres.conf").write_text(
            "".join(
                f"NodeName={node} Name=gpu File={file}\n"
                for node in NODES
                for file in ("/dev/null", "/dev/zero")
            )
        )
        environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path()}
        for name in "state", *NODES:
            (folder / name).mkdir()
        for daemon in ["slurmctld"], *(["slurmd", "-N", node] for node in NODES):
            started = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *daemon, "-D"],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            leaving.callback(started.wait)
            leaving.callback(started.terminate)

        def ask(*words):
            return subprocess.run(
                words, env=environment, capture_output=True, text=True, timeout=30
            ).stdout.split()

        limit = time.monotonic() + timeout
        while ask("sinfo", "-h", "-N", "-o", "%t") != ["idle"] * len(NODES):
            if time.monotonic() > limit:
                raise RuntimeError(
                    "\n".join(log.read_text()[-2000:] for log in folder.glob("*.log"))
                    or "Slurm does not start"
                )
            time.sleep(0.2)
        try:
            yield environment
        finally:
            limit = time.monotonic() + timeout
            while (left := ask("squeue", "-h", "-o", "%A")) and time.monotonic() < limit:
                ask("scancel", *left)
                time.sleep(0.5)


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    if missing():
        raise SystemExit(f"{missing()}: not on this machine; Debian's package is slurm-wlm")
    with cluster() as environment:
        raise SystemExit(subprocess.run(sys.argv[1:], env=environment).returncode)


if __name__ == "__main__":
    main()
