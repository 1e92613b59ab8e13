"""Sound from any source to the stored form and back; many clips at once."""
