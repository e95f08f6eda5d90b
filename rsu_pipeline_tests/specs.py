"""What a test's sandbox begins with."""


def estate(
    *, partners: int = 1, races: int = 1, events: int = 1, registrations: int, start_in_hours: int = 400
) -> dict[str, int]:
    """Return a spec of a sandbox: races of each partner, events of each race, registrations of each event."""
    return {
        "partners": partners,
        "races_per_partner": races,
        "events_per_race": events,
        "registrations_per_event": registrations,
        "start_in_hours": start_in_hours,
    }
