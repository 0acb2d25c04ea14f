"""How long a run is: how many steps it wants, and what a dry run says it will take."""
