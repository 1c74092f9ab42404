"""What names that mean different things in different places mean here."""

from __future__ import annotations

__all__ = ["FORMULAS"]

# id -> its rule in one line, with the convention that others write differently.
FORMULAS: dict[str, str] = {
    "sgd": "b <- momentum*b + (1-dampening)*(g + weight_decay*w); w <- w - lr*b: the decay is L2, inside the momentum",
    "adam": "g <- g + weight_decay*w, then w <- w - lr*m/(sqrt(v)+eps): the decay is L2 and is rescaled with the gradient; "
    "adamw decays apart from it",
    "adamw": "w <- w - lr*weight_decay*w - lr*m/(sqrt(v)+eps): decoupled decay that follows the schedule; eps outside the root",
    "adagrad": "s <- s + g^2; w <- w - lr*g/(sqrt(s)+eps): eps outside the root, 1e-8 here and 1e-10 in torch; decay is L2",
    "rmsprop": "s <- alpha*s + (1-alpha)*g^2; w <- w - lr*g/(sqrt(s)+eps), eps outside the root; centered subtracts the mean "
    "gradient's square; decay is L2",
    "lars": "each weight's rate is lr*trust*|w|/(|g|+weight_decay*|w|), then momentum; biases and norms take lr as it is",
    "lamb": "u = m/(sqrt(v)+eps) + weight_decay*w; w <- w - lr*(|w|/|u|)*u: a rate of its own for each tensor",
    "lion": "w <- w - lr*weight_decay*w - lr*sign(beta1*m + (1-beta1)*g): every weight moves by lr, so lr is 3 to 10 times "
    "smaller and weight_decay 3 to 10 times larger than adamw's",
    "muon": "hidden matrices move by lr times their orthogonalised momentum, all other tensors by adamw; "
    "the parameter groups say which",
    "schedule_free_adamw": "gradients are taken at y = (1-interpolation)*z + interpolation*x; x, the average of z, is delivered",
    "one_cycle": "the last rate is peak/(div_factor*final_div_factor), as in torch; where a text says peak/1e4 that is "
    "final_div_factor = 1e4/div_factor",
    "noam": "lr = scale * d_model^-0.5 * min(t^-0.5, t*warmup^-1.5): an absolute rate, optimizer.lr is not a factor of it",
    "label_smoothing": "targets are (1-epsilon)*onehot + epsilon/K over all K classes, the right one included",
    "l2_penalty": "adds weight/2*sum p^2: its gradient is weight*p, the number that others call weight_decay",
    "huber": "quadratic within delta, linear beyond with slope delta (torch's HuberLoss); smooth L1 is this divided by delta",
    "focal": "(1-p)^gamma * -log p, divided by the number of samples, not by the sum of the factors",
    "dice": "1 - (2*overlap + smooth)/(sum + smooth) for each sample by itself, then the mean",
    "contrastive": "label 1 means the same: half the squared distance; label 0: half the squared hinge of margin - distance",
    "mixup": "one lambda for a step; targets are mixed, so the loss is that of soft targets",
    "ema": "decay is kept per completed step and warmed up from the first, so that the start doesn't linger",
}
