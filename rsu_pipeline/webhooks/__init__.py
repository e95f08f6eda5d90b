"""Delivery of webhooks: signatures, connections that reach no private address, and the process that sends."""
