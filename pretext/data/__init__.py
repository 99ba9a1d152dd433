"""Photos: reading them, cutting views from them, and rendering the toy world."""
