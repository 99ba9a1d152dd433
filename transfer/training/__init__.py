"""How stages train: the loop that classification and detection share, and where it goes on."""
