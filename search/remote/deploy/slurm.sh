#!/bin/bash
# Workers of a search as a Slurm job array, one for each GPU: sbatch --array=1-16 slurm.sh
#SBATCH --job-name=lathe-worker
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@60
set -euo pipefail

# The server, and the password of the user worker, which only you can read: chmod 600 ~/.lathe-worker-password
export LATHE_NATS_USER=worker
LATHE_NATS_PASSWORD=$(cat ~/.lathe-worker-password)
export LATHE_NATS_PASSWORD

exec lathe worker --nats tls://nats.example.org:4222 --nats-ca ~/nats-ca.pem --shared /scratch/lathe --compute cuda --once \
  --name "slurm-${SLURM_ARRAY_JOB_ID}-${SLURM_ARRAY_TASK_ID}"
