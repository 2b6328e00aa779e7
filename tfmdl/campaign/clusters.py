"""The words of --cluster, and what each stands for."""

from tfmdl.campaign.executors import Executor, Local


def executor_of(cluster: str, jobs: int | None) -> Executor:
    """Returns what --cluster stands for: local, dask:ADDRESS, which is connected to, or slurm, where jobs are begun.

    Args:
        cluster: As the flag has it.
        jobs: How many runs to have at work at a time; None: one here, and as many as workers can do elsewhere.

    Raises:
        OSError: if there is no scheduler at the address.
        ValueError: if it stands for nothing, or what it needs is not installed or set.
    """
    kind, _, address = cluster.partition(":")
    if cluster == "local":
        return Local(jobs or 1)
    if cluster != "slurm" and (kind != "dask" or not address):
        raise ValueError(f"--cluster must be local, dask:ADDRESS or slurm; received {cluster!r}")
    try:
        from tfmdl.campaign import dask_executor

        return dask_executor.on_slurm(jobs) if cluster == "slurm" else dask_executor.at(address, jobs)
    except ModuleNotFoundError as error:
        raise ValueError(f"--cluster={cluster} needs {error.name}: pip install 'tfmdl[cluster]'") from error
