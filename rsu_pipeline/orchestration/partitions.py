"""The partition set. A key is the partner's id and a slug of its name at onboarding. Keys are never deleted."""

import dagster as dg

NAME = "timing_partner"
timing_partner = dg.DynamicPartitionsDefinition(name=NAME)


def read_partition(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> str:
    """Return the partition key of a run.

    Raises:
        dg.Failure: the run was launched without a partition.
    """
    if not context.op_execution_context.has_partition_key:
        raise dg.Failure(
            "This run was launched without a partition, or for several at once. Launch it for one partner's partition.",
            allow_retries=False,
        )
    return str(context.partition_key)
