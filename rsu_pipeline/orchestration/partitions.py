"""The partition set. A key is the partner's id and a slug of its name at onboarding.

A partner keeps its key for good. The sensor `new_credentials` removes keys that belong to no partner.
"""

import warnings

import dagster as dg

# Runs with several partitions are in beta in 1.13. Without this, every command that loads the definitions prints a warning.
warnings.filterwarnings("ignore", "Parameter `backfill_policy`", dg.BetaWarning)

NAME = "timing_partner"
timing_partner = dg.DynamicPartitionsDefinition(name=NAME)


def read_partitions(context: dg.AssetExecutionContext) -> list[str]:
    """Return the partition keys of a run that may have several.

    Raises:
        dg.Failure: the run was launched without a partition.
    """
    run = context.op_execution_context
    if not run.has_partition_key and not run.has_partition_key_range:
        raise dg.Failure(
            "This run was launched without a partition. Launch it for the partitions of one or more partners.",
            allow_retries=False,
        )
    return list(context.partition_keys)


def list_keys_of_run(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    """Return the partition keys that a run is for: one, several in a range, or none."""
    if (key := run.tags.get("dagster/partition")) is not None:
        return [key]
    first, last = (run.tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end"))
    keys = list(instance.get_dynamic_partitions(NAME)) if first and last else []
    if first not in keys or last not in keys:
        return []
    return keys[keys.index(first) : keys.index(last) + 1]


def is_of_one_partner(context: dg.AssetExecutionContext) -> bool:
    """Return whether a run is for one partition and not for a range of them.

    Raises:
        dg.Failure: the run was launched without a partition.
    """
    if not context.op_execution_context.has_partition_key:
        read_partitions(context)
        return False
    return True


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
