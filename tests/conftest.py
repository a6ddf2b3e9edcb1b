"""What several rooms of the suite share."""
