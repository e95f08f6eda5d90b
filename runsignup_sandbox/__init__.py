"""A local simulation of the RunSignup REST API, served over HTTP by its own process.

It holds invented races and people, answers the handful of endpoints a timing
company's sync needs, and offers an admin side on the same port with which a test
or the demo changes the world and provokes faults. Start it with
``python -m runsignup_sandbox`` or from code with
:class:`runsignup_sandbox.process.SandboxProcess`.
"""
