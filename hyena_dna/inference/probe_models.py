"""Classifiers of standardised vectors, quick on thousands of wide ones: products in float32, on all of torch's threads.

scikit-learn's logistic regression multiplies float32 rows by float64 weights, for which it converts all rows at every
step: ten times slower on 10,000 rows of width 2,048.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["LinearClassifier", "fit_softmax", "nearest_classes"]

# As scikit-learn ends a fit: the largest entry of the gradient, and the least relative progress.
_GRADIENT = 1e-4
_PROGRESS = 64 * float(np.finfo(np.float64).eps)
# Rows whose similarities to all that was learnt are in memory at once.
_ROWS = 1024


class LinearClassifier(NamedTuple):
    """A linear map to one logit per class.

    Attributes:
        weight: (classes, width) float32.
        bias: (classes,) float32.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.int64]:
        """The likeliest class of each row: (rows, width) -> (rows,)."""
        return np.asarray((x @ self.weight.T + self.bias).argmax(1), np.int64)


def fit_softmax(
    x: NDArray[np.float32], codes: NDArray[np.int64], classes: int, *, strength: float = 1.0, iterations: int = 200
) -> LinearClassifier:
    """Multinomial logistic regression with an L2 penalty, by L-BFGS.

    Minimises mean_i -log softmax(W x_i + b)[y_i] + |W|^2 / (2 * strength * rows), the objective of scikit-learn's
    `LogisticRegression(C=strength)`. A separation that is perfect is followed for as long as iterations last.

    Args:
        x: (rows, width), standardised.
        codes: (rows,) class of each row, from 0; every class has rows.
        classes: number of classes, at least two.
        strength: inverse strength of the penalty.
        iterations: most steps.
    """
    from scipy.optimize import minimize

    rows, width = x.shape
    features, targets = torch.from_numpy(x), torch.from_numpy(codes)[:, None]
    # Of two classes scikit-learn learns one weight vector, the difference, which is penalised twice as much as both.
    penalty = (2 if classes == 2 else 1) / (strength * rows)

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        parameters = torch.from_numpy(flat).view(classes, width + 1)
        weight, bias = parameters[:, :width], parameters[:, width]
        log_prob = torch.addmm(bias.float(), features, weight.float().T).log_softmax(1)
        loss = -log_prob.gather(1, targets).double().mean() + penalty / 2 * weight.square().sum()
        error = log_prob.exp_()
        error.scatter_add_(1, targets, error.new_full((rows, 1), -1)).div_(rows)
        gradient = torch.cat([error.T @ features, error.sum(0, keepdim=True).T], 1).double()
        gradient[:, :width] += penalty * weight
        return float(loss), gradient.flatten().numpy()

    found = minimize(
        objective,
        np.zeros(classes * (width + 1)),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": iterations, "maxls": 50, "gtol": _GRADIENT, "ftol": _PROGRESS},
    )
    parameters = found.x.reshape(classes, width + 1).astype(np.float32)
    return LinearClassifier(parameters[:, :width], parameters[:, width])


def nearest_classes(
    learnt: NDArray[np.float32], codes: NDArray[np.int64], x: NDArray[np.float32], neighbours: int
) -> NDArray[np.int64]:
    """The most frequent class among the nearest rows by cosine, of equally frequent ones the first.

    Args:
        learnt: (learnt rows, width).
        codes: (learnt rows,) their classes, from 0.
        x: (rows, width) to classify.
        neighbours: rows that vote, at most all.

    Returns:
        (rows,) classes.
    """
    directions = torch.nn.functional.normalize(torch.from_numpy(learnt)).T
    votes = torch.nn.functional.one_hot(torch.from_numpy(codes))
    found = []
    for first in range(0, len(x), _ROWS):
        # Lengths of the rows themselves do not change the order of their neighbours.
        nearest = (
            (torch.from_numpy(x[first : first + _ROWS]) @ directions)
            .topk(min(neighbours, len(learnt)), sorted=False)
            .indices
        )
        found.append(votes[nearest].sum(1).argmax(1))
    return np.asarray(torch.cat(found).numpy(), np.int64)
