"""Local energy: the loss around a minimum, under w·(1 + sigma·z) on all convolution and linear
weights (Pittorino et al. 2020, arXiv 2006.07897).

BatchNorm's parameters stay; its statistics are the stored ones (as the report did) or recomputed
for the moved weights.
"""

import sys

from common.measuring import passport
from common.networks import weights

TITLE = "Local energy (weight noise)"
SOURCE = "Pittorino et al. 2020, arXiv 2006.07897; the original report"
LEVEL = "sigma"
UNITS = "standard deviation relative to each weight"
LEVELS = [i / 20 for i in range(20)]
REPEATS = 25
BATCHNORM = ["stored", "recomputed"]

perturb_weight = weights.multiplicative_noise

if __name__ == "__main__":
    passport.main(__doc__, [sys.modules[__name__]])
