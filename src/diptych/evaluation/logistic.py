"""The optimum of softmax regression with an L2 penalty, by Newton's method; on any device.

Newton steps are solved by conjugate gradients (Steihaug 1983; Lin, Weng & Keerthi 2008); the time
goes into Hessian products. Two things keep them at about ten to a penalty, a third makes each
cheap:

- The Hessian is close to diagonal in coordinates where the features are centred and their
  covariance is diagonal: for class c and eigenvalue s_j, mean_i p_ic (1 - p_ic) * s_j + ridge. Its
  inverse is the preconditioner, as in Böhning's bound (1992) but with the curvature that is there,
  not its maximum 1/2. One eigendecomposition serves all penalties.
- Solutions are the starts of the next, weaker penalty.
- Their matrices are multiplied in bfloat16 where the device does that at several times float32's
  speed. An error in a direction costs descent, not accuracy: where it leads to is measured in
  float32 or float64.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diptych.evaluation.coordinates import Coordinates, precise_type, quick_type, working_type

_TILE = 2**21
"""Logits held at a time, 8 MB in float32, which caches can hold; the probabilities are held
whole."""
_STEPS, _PRODUCTS, _HALVINGS = 100, 200, 30
"""At most: Newton steps, Hessian products in one, halvings of one."""


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """Where the search ended, and how near that is to the true optimum."""

    weights: Float[Tensor, "width classes"]
    bias: Float[Tensor, " classes"]
    """of mean zero; the same number added to all biases changes nothing, so one has to be chosen"""
    loss: float
    """the objective in nats: mean cross entropy and penalty"""
    gradient: float
    """its largest entry by weights and biases, in absolute value; scikit-learn's own measure"""
    decrement: float
    """sqrt(g' M g), M near the inverse Hessian; half its square is about what is left to gain"""
    steps: int
    passes: int
    """over the data, of two matrix products each: gradients and Hessian products"""


@dataclass(frozen=True, kw_only=True)
class _Point:
    """The objective at `theta`."""

    theta: Float[Tensor, "rows classes"]
    """in coordinates; the last row holds the biases"""
    loss: float
    gradient: Float[Tensor, "rows classes"]
    """by the features' weights and biases"""
    probabilities: Float[Tensor, "n classes"]
    curvature: Float[Tensor, " classes"]
    """mean_i p_ic (1 - p_ic)"""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """mean_i [logsumexp_c z_ic - z_i,y_i] + ridge / 2 |W|², z_i = W' x_i + b. The biases b bear no
    penalty.

    scikit-learn's C is 1 / (n * ridge); with two classes its objective has one vector instead of
    two, and the same classifier has C = 2 / (n * ridge). Memory: the features, and one probability
    for each sample and class.
    """

    features: Float[Tensor, "n width"]
    labels: Int[Tensor, " n"]
    """each of 0 .. classes - 1 must occur: the bias of a class without samples would go to minus
    infinity"""
    classes: int
    coordinates: Coordinates

    def minimise(
        self,
        ridge: float,
        start: Optimum | None = None,
        *,
        tolerance: float = 1e-5,
        exact: bool = True,
    ) -> Optimum:
        """Descend from `start`, or zero, until the Newton decrement is `tolerance` times the root
        of the objective.

        (Of 1, if that is less.) What is left to gain is then a share of the objective, and weak
        penalties, with which it is near zero, are not left early.

        `exact` takes gradients in float64; in float32 a tolerance of 1e-3 is safe.

        >>> import torch
        >>> from diptych.evaluation.coordinates import Coordinates
        >>> from diptych.evaluation.logistic import Problem
        >>> x, y = torch.tensor([[-1.0], [1.0], [3.0]]), torch.tensor([0, 0, 1])
        >>> problem = Problem(features=x, labels=y, classes=2, coordinates=Coordinates.of(x))
        >>> problem.minimise(0.1).gradient < 1e-6
        True
        """
        precise = precise_type(self.features) if exact else working_type(self.features)
        point, passes, steps = self._at(self._first(start), ridge, precise), 1, 0
        while True:
            gradient = self.coordinates.pull(point.gradient)
            inverse = self._preconditioner(point.curvature, ridge)
            # The Newton decrement sqrt(g' H^-1 g), with the preconditioner in place of H^-1: half
            # its square is what the quadratic model says is left to gain.
            decrement = (gradient.square() * inverse).sum().sqrt().item()
            enough = tolerance * min(1.0, point.loss) ** 0.5
            if decrement <= enough or steps == _STEPS:
                break
            # Inexact Newton (Dembo & Steihaug 1983): a residual that shrinks like the square root
            # of the decrement keeps convergence faster than linear without solving early systems
            # further than their quadratic model is worth; never further than is asked for.
            accuracy = max(min(0.3, decrement**0.5), 0.3 * enough / decrement)
            step, products = self._newton_step(
                point.probabilities, gradient, inverse, ridge, accuracy
            )
            slope = (gradient * step).sum().item()
            following, trials = self._line_search(point, step, slope, ridge, precise)
            passes += products + trials
            if following is None:
                break
            point, steps = following, steps + 1
        theta = self.coordinates.to_features(point.theta)
        return Optimum(
            weights=theta[:-1],
            bias=theta[-1] - theta[-1].mean(),
            loss=point.loss,
            gradient=point.gradient.abs().max().item(),
            decrement=decrement,
            steps=steps,
            passes=passes,
        )

    def _first(self, start: Optimum | None) -> Float[Tensor, "rows classes"]:
        if start is None:
            zeros = torch.zeros(
                self.features.shape[1] + 1, self.classes, device=self.features.device
            )
            return zeros.to(precise_type(self.features))
        return self.coordinates.from_features(torch.cat([start.weights, start.bias[None]]))

    def _at(self, theta: Float[Tensor, "rows classes"], ridge: float, dtype: torch.dtype) -> _Point:
        """Loss and gradient, computed in `dtype`."""
        by_feature = self.coordinates.to_features(theta)
        used = by_feature.to(dtype)
        probabilities = self.features.new_empty(
            len(self.labels), self.classes, dtype=working_type(self.features)
        )
        gradient, curvature, loss = torch.zeros_like(theta), torch.zeros_like(theta[0]), 0.0
        for rows in self._tiles():
            x, y = self.features[rows].to(dtype), self.labels[rows, None]
            log_probabilities = torch.addmm(used[-1], x, used[:-1]).log_softmax(1)
            loss -= log_probabilities.gather(1, y).sum(dtype=theta.dtype).item()
            residuals = log_probabilities.exp_()
            probabilities[rows] = residuals.to(probabilities.dtype)
            # sum_i p_ic (1 - p_ic), the logits' own curvature in each class.
            curvature += residuals.sum(0) - torch.linalg.vecdot(residuals, residuals, dim=0)
            # The gradient by the logits is p - onehot(y); by weights, X' (p - onehot(y)).
            residuals.scatter_add_(1, y, torch.full_like(y, -1, dtype=dtype))
            gradient += _transposed(x, residuals)
        gradient /= len(self.labels)
        gradient[:-1] += ridge * by_feature[:-1]
        # The axes are orthogonal: weights have the same length in coordinates as by feature.
        penalty = ridge / 2 * theta[:-1].square().sum().item()
        return _Point(
            theta=theta,
            loss=loss / len(self.labels) + penalty,
            gradient=gradient,
            probabilities=probabilities,
            curvature=curvature / len(self.labels),
        )

    def _preconditioner(
        self, curvature: Float[Tensor, " classes"], ridge: float
    ) -> Float[Tensor, "rows classes"]:
        """The inverse of the Hessian's diagonal: s_j mean_i p_ic (1 - p_ic) + ridge for weight j
        of class c, without s_j and ridge for its bias."""
        # A class of which every sample is certain has no curvature left: don't divide by zero.
        curvature = curvature.clamp(min=1e-9)
        return 1 / torch.cat(
            [self.coordinates.spectrum[:, None] * curvature + ridge, curvature[None]]
        )

    def _newton_step(
        self,
        probabilities: Float[Tensor, "n classes"],
        gradient: Float[Tensor, "rows classes"],
        inverse: Float[Tensor, "rows classes"],
        ridge: float,
        accuracy: float,
    ) -> tuple[Float[Tensor, "rows classes"], int]:
        """The Newton step, which solves H step = -gradient, up to a share `accuracy` of the
        residual, and the Hessian products that it took.

        Conjugate gradients (Hestenes & Stiefel 1952) with the diagonal preconditioner M: the k-th
        step is the best in the span of k directions, so that few do where M H is close to one.
        """
        residual = -gradient
        step = torch.zeros_like(residual)
        scaled = inverse * residual
        direction, size = scaled, (residual * scaled).sum()
        # Sizes are r' M r, squares of lengths.
        enough = accuracy**2 * size
        for products in range(1, _PRODUCTS + 1):
            curved = self._hessian_times(probabilities, direction, ridge)
            curvature = (direction * curved).sum()
            # The Hessian has no negative curvature: what is left is flat but for rounding, and what
            # was found so far descends (Steihaug 1983).
            if curvature <= 0:
                return step, products
            # The exact minimum along the direction: alpha = r' M r / d' H d.
            length = size / curvature
            step, residual = step + length * direction, residual - length * curved
            scaled = inverse * residual
            before, size = size, (residual * scaled).sum()
            if size <= enough:
                return step, products
            # The next direction is conjugate to all before it: d = M r + beta d.
            direction = scaled + size / before * direction
        return step, _PRODUCTS

    def _hessian_times(
        self,
        probabilities: Float[Tensor, "n classes"],
        direction: Float[Tensor, "rows classes"],
        ridge: float,
    ) -> Float[Tensor, "rows classes"]:
        """The Hessian times `direction`: X' [p * (u - <p, u>)] / n + ridge, with the change of the
        logits u = X direction. The Hessian itself, (width x classes)², is never made."""
        used = self.coordinates.to_features(direction).to(quick_type(self.features))
        product = torch.zeros_like(direction)
        for rows in self._tiles():
            x, p = self.features[rows].to(used), probabilities[rows]
            change = torch.addmm(used[-1], x, used[:-1]).to(p)
            # The derivative of a softmax is diag(p) - p p'. p itself stays precise: where a sample
            # is nearly certain, all curvature lies in 1 - p.
            change -= torch.linalg.vecdot(p, change)[:, None]
            product += _transposed(x, change.mul_(p).to(x))
        product = self.coordinates.pull(product / len(self.labels))
        product[:-1] += ridge * direction[:-1]
        return product

    def _line_search(
        self,
        point: _Point,
        step: Float[Tensor, "rows classes"],
        slope: float,
        ridge: float,
        dtype: torch.dtype,
    ) -> tuple[_Point | None, int]:
        """Halve the step until it descends by a share of what its slope promises (Armijo's rule);
        None: rounding is all that is left. And the trials.

        Near the optimum the whole step is taken, so that Newton's convergence stays as fast as it
        is; far from it the quadratic model may promise too much.
        """
        # Losses closer to each other than this can't be told apart in the type they are summed in.
        rounding = torch.finfo(dtype).eps * abs(point.loss)
        for halvings in range(_HALVINGS):
            size = 0.5**halvings
            following = self._at(point.theta + size * step, ridge, dtype)
            if following.loss <= point.loss + 1e-4 * size * slope + rounding:
                return following, halvings + 1
        return None, _HALVINGS

    def _tiles(self) -> list[slice]:
        rows = max(1, _TILE // self.classes)
        return [slice(first, first + rows) for first in range(0, len(self.labels), rows)]


def _transposed(
    x: Float[Tensor, "n width"], residuals: Float[Tensor, "n classes"]
) -> Float[Tensor, "rows classes"]:
    return torch.cat([x.T @ residuals, residuals.sum(0, keepdim=True)])
