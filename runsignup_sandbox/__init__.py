"""A local simulation of the RunSignup REST API, served over HTTP by its own process.

It has invented races and people, and answers the endpoints that a timing company's sync needs. Below `/admin` on the same
port a test or the demo changes the world and injects faults. Start it with ``python -m runsignup_sandbox``, or from code with
:class:`runsignup_sandbox.process.SandboxProcess`.
"""
