"""Field cases: what people who pull registrations from RunSignup have met, each with the right value."""
