"""The partition set. A key is the partner's number and a slug of its name at onboarding; keys are never deleted."""

import dagster as dg

NAME = "timing_partner"
timing_partner = dg.DynamicPartitionsDefinition(name=NAME)
