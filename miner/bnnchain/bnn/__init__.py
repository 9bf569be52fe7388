"""Models as bytes: encoding, distance, the zoo."""
