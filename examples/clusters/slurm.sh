#!/bin/bash
#SBATCH --job-name=jaxgan
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1     # one process a node: it takes all GPUs of the node
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120       # two minutes before the end: the run saves and exits with 143
#SBATCH --requeue               # after the failure of a node
#SBATCH --open-mode=append

# sbatch examples/clusters/slurm.sh --config.seed=1     # from the repository's root, on a disk that all nodes see

set -uo pipefail
source .venv/bin/activate

status=0
srun --kill-on-bad-exit=1 jaxgan train --config=cifar --workdir=runs/cifar "$@" || status=$?

# The time was up (143), or the run failed, as it does when it loses a process (1): the same job goes on from the last
# checkpoint. What fails for another reason fails again, so not for ever.
if [[ $status == 143 || ($status == 1 && ${SLURM_RESTART_COUNT:-0} -lt 5) ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
