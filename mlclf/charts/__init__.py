"""Charts as SVG and the page around them: one HTML file that needs nothing beside it and asks no network."""
