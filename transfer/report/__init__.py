"""Tables, plots, differences and the page made of score lines."""
