"""Software-defined assets, partitioned by timing partner."""
