"""The page on which photos are coloured: a server of this machine, and what it sends to the browser."""
