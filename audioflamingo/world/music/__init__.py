"""Music that we compose ourselves: every fact about a piece is known, because the piece was written from it."""
