"""Local energy in its paper's own form: w·(1 + sigma·z) on all parameters, BatchNorm's included
(Pittorino et al. 2020, arXiv 2006.07897).

Stored statistics, 100 draws. The paper's energy is the rise of train error: clean accuracy less
accuracy. The rise of loss is the average-case adaptive sharpness of Andriushchenko et al. 2023
(arXiv 2302.07011) with rho = sigma.
"""

import sys

from common.measuring import passport
from common.networks import weights

TITLE = "Local energy, all parameters"
SOURCE = "Pittorino et al. 2020, arXiv 2006.07897"
LEVEL = "sigma"
UNITS = "standard deviation relative to each weight"
LEVELS = [0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5]
REPEATS = 100
SPLITS = ["train"]

perturb_weight = weights.multiplicative_noise


def variants(model):
    """One: all parameters, {"": {name: parameter}}."""
    return {"": dict(model.named_parameters())}


if __name__ == "__main__":
    passport.main(__doc__, [sys.modules[__name__]])
