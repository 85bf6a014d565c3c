import common  # first: see there
