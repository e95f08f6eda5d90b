"""Reports for people: pure functions from rows to frames, from frames to pictures, from both to a page.

pandas and matplotlib are loaded only when a report is made.
"""
